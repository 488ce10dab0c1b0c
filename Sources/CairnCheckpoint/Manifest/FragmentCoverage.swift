package import CairnBase
package import CairnTensor

/// Whether fragments make up a tensor: each inside it, no element twice, none missing.
package enum FragmentCoverage {
    /// Takes time in proportion to the number of regions, whatever they are: a hostile file may list a million.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a fragment outside or an overlap, ``CairnError/Code/incomplete`` when
    ///   elements are missing.
    package static func check(_ regions: [Region], of shape: Shape) throws(CairnError) {
        var covered = 0
        for region in regions {
            guard region.isInside(shape) else {
                throw CairnError(
                    .malformed, "a fragment lies outside its tensor",
                    .init(expected: "inside \(shape)", found: "\(region)"))
            }
            // Disjoint regions inside the tensor cannot add up beyond its element count; overlapping ones might overflow.
            guard let sum = covered.adding(checked: region.elementCount) else {
                throw CairnError(.malformed, "the fragments of a tensor overlap")
            }
            covered = sum
        }
        var fingerprint = CoverageFingerprint()
        if covered == shape.elementCount, fingerprint.isPartition(regions, of: shape) { return }
        if let (first, second) = overlap(regions) {
            throw CairnError(.malformed, "two fragments overlap", .init(found: "\(first) and \(second)"))
        }
        guard covered != shape.elementCount else {
            throw CairnError(.malformed, "fragments of the tensor overlap, and others are missing")
        }
        throw CairnError(
            covered > shape.elementCount ? .malformed : .incomplete, "the fragments do not cover the tensor exactly",
            .init(expected: "\(shape.elementCount) elements", found: "\(covered)"))
    }

    /// Two of the regions that share an element, or `nil` if there are none or the search takes too long: it only serves
    /// the message. Sweeps along the dimension in which the most starts differ.
    private static func overlap(_ regions: [Region]) -> (Region, Region)? {
        let solid = regions.filter { $0.elementCount > 0 }
        guard let first = solid.first, solid.count > 1 else { return nil }
        guard first.shape.dimensionCount > 0 else { return (solid[0], solid[1]) }
        let startCounts = first.offsets.indices.map { axis in Set(solid.map { $0.offsets[axis] }).count }
        let axis = startCounts.indices.max { startCounts[$0] < startCounts[$1] } ?? 0
        let sorted = solid.sorted { $0.offsets[axis] < $1.offsets[axis] }
        var active: [Region] = []
        var comparisons = 0
        for region in sorted {
            active.removeAll { $0.offsets[axis] + $0.shape[axis] <= region.offsets[axis] }
            for other in active where other.overlaps(region) { return (other, region) }
            active.append(region)
            comparisons += active.count
            if comparisons > 10_000_000 { return nil }
        }
        return nil
    }
}

/// A proof by fingerprint that boxes cover a whole exactly once, in one pass.
///
/// Every coordinate c at which a box begins or ends in dimension d gets a random number P(d, c) modulo a prime. The
/// fingerprint of a box is the product over d of P(d, end) - P(d, begin). It is the sum of the fingerprints of the cells that
/// the coordinates cut the box into, so boxes that cover each cell once sum up to the fingerprint of the whole. If they do
/// not, the difference of the two sums is a polynomial in the random numbers that is not zero and of degree at most the
/// number of dimensions D, which is zero for at most D choices in 2^61 (Schwartz, J. ACM 27 (4), 1980). No one who writes
/// a file knows the choice.
struct CoverageFingerprint {
    private static let prime: UInt64 = (1 << 61) - 1
    private var generator = SystemRandomNumberGenerator()
    private var points: [[Int: UInt64]] = []

    mutating func isPartition(_ regions: [Region], of shape: Shape) -> Bool {
        points = [[Int: UInt64]](repeating: [:], count: shape.dimensionCount)
        let whole = fingerprint(Region(whole: shape))
        var sum: UInt64 = 0
        for region in regions where region.elementCount > 0 { sum = Self.reduce(sum + fingerprint(region)) }
        return sum == (shape.elementCount > 0 ? whole : 0)
    }

    private mutating func fingerprint(_ region: Region) -> UInt64 {
        var product: UInt64 = 1
        for (dimension, offset) in region.offsets.enumerated() {
            let begin = point(dimension, offset)
            let end = point(dimension, offset + region.shape[dimension])
            product = Self.multiply(product, Self.reduce(end + Self.prime - begin))
        }
        return product
    }

    private mutating func point(_ dimension: Int, _ coordinate: Int) -> UInt64 {
        if let known = points[dimension][coordinate] { return known }
        let value = UInt64.random(in: 0..<Self.prime, using: &generator)
        points[dimension][coordinate] = value
        return value
    }

    private static func reduce(_ value: UInt64) -> UInt64 { value >= prime ? value - prime : value }

    /// 2^61 is 1 modulo the prime, so the two halves of the product add up.
    private static func multiply(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (high, low) = left.multipliedFullWidth(by: right)
        return reduce((high << 3 | low >> 61) + (low & prime))
    }
}
