package import CairnBase
package import CairnTensor

extension Manifest {
    /// Checks what a syntactically correct manifest may still get wrong.
    func validate() throws(CairnError) {
        try validateFiles()
        try validateEarlier()
        try requireAscending(tensors.map(\.name), "tensors")
        try requireAscending(ties.map(\.name), "ties")
        try requireAscending(values.map(\.name), "values")
        var names = Set<ExactString>()
        var bits = 0
        for tensor in tensors {
            names.insert(ExactString(tensor.name))
            do throws(CairnError) {
                guard tensor.scalarType.byteCount(elementCount: tensor.shape.elementCount) != nil else {
                    throw CairnError(
                        .malformed, "the elements do not fill a representable number of whole bytes",
                        .init(found: "\(tensor.scalarType)\(tensor.shape)"))
                }
                // Counted in bits, so that whatever is computed of parts of them, and of all of them, fits.
                guard let more = tensor.shape.elementCount.multiplied(checked: tensor.scalarType.bitWidth),
                    let sum = bits.adding(checked: more)
                else {
                    throw CairnError(
                        .malformed, "the tensors are larger together than any storage",
                        .init(expected: "less than 2^60 bytes", found: "\(tensor.scalarType)\(tensor.shape)"))
                }
                bits = sum
                guard tensor.layout == nil else { continue }
                for fragment in tensor.fragments where !fileNumbers.contains(fragment.file) {
                    throw CairnError(
                        .malformed, "a fragment is in a file that is not listed",
                        .init(expected: "\(fileNumbers)", found: "\(fragment.file)"))
                }
                try FragmentCoverage.check(tensor.fragments.map(\.region), of: tensor.shape)
            } catch {
                throw error.adding(.init(tensor: tensor.name))
            }
        }
        try validateLayouts()
        for tie in ties {
            guard names.contains(ExactString(tie.target)), !names.contains(ExactString(tie.name)) else {
                throw CairnError(
                    .malformed, "a tie does not lead from a new name to a stored tensor",
                    .init(tensor: tie.name, found: tie.target))
            }
        }
        for value in values where names.contains(ExactString(value.name)) {
            throw CairnError(.malformed, "a name stands for a tensor and a value", .init(tensor: value.name))
        }
    }

    private func validateFiles() throws(CairnError) {
        var names = Set<ExactString>()
        var total = Self.maximumByteCount
        for (index, file) in files.enumerated() {
            guard names.insert(ExactString(file.name)).inserted else {
                throw CairnError(.malformed, "a file name is not allowed here", .init(found: file.name))
            }
            guard file.rank == index else {
                throw CairnError(
                    .malformed, "the files are not in the order of ranks",
                    .init(expected: "rank \(index)", found: "rank \(file.rank)"))
            }
            try Self.validate(file)
            guard let sum = total.adding(checked: file.byteCount) else {
                throw CairnError(.malformed, "the files are larger together than any storage", .init(found: file.name))
            }
            total = sum
        }
        for entry in earlier {
            guard let sum = total.adding(checked: entry.file.byteCount) else {
                throw CairnError(.malformed, "the files are larger together than any storage", .init(found: entry.key))
            }
            total = sum
        }
    }

    /// Checks what an entry says of one file.
    static func validate(_ file: File) throws(CairnError) {
        guard !file.name.isEmpty, file.name.utf8.allSatisfy({ $0 > 0x20 && $0 != UInt8(ascii: "/") }),
            file.name != ".", file.name != ".."
        else {
            throw CairnError(.malformed, "a file name is not allowed here", .init(found: file.name))
        }
        guard file.headerByteCount >= 8, file.byteCount >= file.headerByteCount else {
            throw CairnError(
                .malformed, "a file's sizes contradict each other",
                .init(found: "\(file.headerByteCount) of \(file.byteCount) bytes are header"))
        }
    }

    private func requireAscending(_ names: [String], _ what: String) throws(CairnError) {
        for (first, second) in zip(names, names.dropFirst()) where !(ExactString(first) < ExactString(second)) {
            throw CairnError(.malformed, "the \(what) are not sorted, or one stands twice", .init(tensor: second))
        }
    }
}

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
