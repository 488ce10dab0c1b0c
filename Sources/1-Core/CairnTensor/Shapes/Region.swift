public import CairnBase

/// A box of a tensor's elements: an offset and an extent for each dimension.
public struct Region: Sendable, Hashable {
    /// The first element's index in each dimension.
    public let offsets: [Int]
    /// How many elements the box has in each dimension.
    public let shape: Shape

    /// Makes a box and checks that it is well-formed in itself.
    ///
    /// - Throws: ``CairnError/Code/malformed`` on differing dimension counts, negative offsets or overflow.
    public init(offsets: [Int], shape: Shape) throws(CairnError) {
        guard offsets.count == shape.dimensionCount else {
            throw CairnError(
                .malformed, "a region's offsets and extents differ in number",
                .init(expected: "\(shape.dimensionCount)", found: "\(offsets.count)"))
        }
        for (offset, extent) in zip(offsets, shape.extents) where offset < 0 || offset.adding(checked: extent) == nil {
            throw CairnError(.malformed, "a region's offset is out of range", .init(found: "\(offsets)"))
        }
        self.offsets = offsets
        self.shape = shape
    }

    /// The region of a whole tensor.
    public init(whole shape: Shape) {
        self.offsets = [Int](repeating: 0, count: shape.dimensionCount)
        self.shape = shape
    }

    /// A box whose parts the caller knows to be well-formed.
    package init(trustedOffsets: [Int], shape: Shape) {
        self.offsets = trustedOffsets
        self.shape = shape
    }

    /// How many elements the region has.
    public var elementCount: Int { shape.elementCount }

    /// Whether the region is the whole of a tensor of `shape`.
    package func covers(_ shape: Shape) -> Bool {
        self.shape == shape && offsets.allSatisfy { $0 == 0 }
    }

    /// Whether the region lies inside a tensor of `shape`.
    public func isInside(_ shape: Shape) -> Bool {
        guard offsets.count == shape.dimensionCount else { return false }
        return zip(offsets, zip(self.shape.extents, shape.extents)).allSatisfy { offset, extents in
            offset <= extents.1 && extents.0 <= extents.1 - offset
        }
    }

    /// What two regions of the same tensor have in common, or `nil` when they share no element.
    public func intersection(_ other: Region) -> Region? {
        guard offsets.count == other.offsets.count else { return nil }
        var starts: [Int] = []
        var extents: [Int] = []
        for dimension in offsets.indices {
            let start = max(offsets[dimension], other.offsets[dimension])
            let end = min(
                offsets[dimension] + shape[dimension], other.offsets[dimension] + other.shape[dimension])
            guard start < end else { return nil }
            starts.append(start)
            extents.append(end - start)
        }
        return Region(trustedOffsets: starts, shape: Shape(extents))
    }

    /// Whether two regions of the same tensor share an element.
    package func overlaps(_ other: Region) -> Bool {
        guard offsets.count == other.offsets.count else { return false }
        return offsets.indices.allSatisfy { dimension in
            max(offsets[dimension], other.offsets[dimension])
                < min(
                    offsets[dimension] + shape[dimension], other.offsets[dimension] + other.shape[dimension])
        }
    }

    /// The same box with its offsets counted from `origin`, which must not lie beyond them in any dimension.
    package func relative(to origin: [Int]) -> Region {
        Region(trustedOffsets: zip(offsets, origin).map { $0 - $1 }, shape: shape)
    }
}

extension Region: CustomStringConvertible {
    /// `[0..<4, 8..<16]`
    public var description: String {
        "[" + zip(offsets, shape.extents).map { "\($0)..<\($0 + $1)" }.joined(separator: ", ") + "]"
    }
}

extension Region {
    /// The same box with its offsets counted on from `origin`.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when an offset would be out of range.
    package func shifted(by origin: [Int]) throws(CairnError) -> Region {
        guard offsets.count == origin.count else {
            throw CairnError(
                .mismatch, "a region is moved by another number of dimensions than it has",
                .init(expected: "\(offsets.count)", found: "\(origin.count)"))
        }
        return try Region(offsets: zip(offsets, origin).map { $0.adding(clamped: $1) }, shape: shape)
    }

    /// Makes sure that the region lies inside of a tensor.
    ///
    /// - Throws: ``CairnError/Code/mismatch``.
    package func check(inside shape: Shape) throws(CairnError) {
        guard isInside(shape) else {
            throw CairnError(
                .mismatch, "a region lies outside its tensor", .init(expected: "inside \(shape)", found: "\(self)"))
        }
    }

    /// Makes sure that a read of this region makes sense: it lies inside of the tensor, begins and ends at whole bytes, and
    /// fills the destination.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when it lies outside or the destination has another size,
    ///   ``CairnError/Code/unsupported`` when a run of packed elements does not begin and end at a byte.
    package func check(
        inside shape: Shape, of scalarType: ScalarType, filling destinationByteCount: Int
    ) throws(CairnError) {
        try check(inside: shape)
        if scalarType.isPacked, elementCount > 0 {
            let runs = RegionRuns(of: self, in: shape)
            let isWhole = { (count: Int) in count % 8 * scalarType.bitWidth % 8 == 0 }
            guard isWhole(runs.runLength), runs.allSatisfy(isWhole) else {
                throw CairnError(
                    .unsupported, "a region of packed elements must begin and end at whole bytes",
                    .init(found: "\(self) of \(scalarType)\(shape)"))
            }
        }
        guard scalarType.byteCount(elementCount: elementCount) == destinationByteCount else {
            throw CairnError(
                .mismatch, "the destination of a region has another size",
                .init(expected: "\(self) of \(scalarType)", found: "\(destinationByteCount) bytes"))
        }
    }
}

/// Boxes of one tensor, arranged so that those that meet a region are found without looking at all.
package struct RegionIndex: Sendable {
    private let regions: [Region]
    /// The dimension in which the boxes start at most different places; `nil` for scalars.
    package let dimension: Int?
    /// The positions of the boxes by their start along `dimension`.
    package let order: [Int]
    /// For each of `order` the furthest end, along `dimension`, of it and the ones before.
    private let furthestEnds: [Int]

    /// - Parameter regions: Boxes with as many dimensions as each other.
    package init(_ regions: [Region]) {
        self.regions = regions
        let dimension = (regions.first?.offsets.indices ?? 0..<0)
            .map { dimension in (dimension, Set(regions.map { $0.offsets[dimension] }).count) }
            .max { ($0.1, -$0.0) < ($1.1, -$1.0) }?.0
        self.dimension = dimension
        guard let dimension else {
            order = Array(regions.indices)
            furthestEnds = []
            return
        }
        order = regions.indices.sorted {
            (regions[$0].offsets[dimension], $0) < (regions[$1].offsets[dimension], $1)
        }
        var furthest = 0
        furthestEnds = order.map { position in
            furthest = max(furthest, regions[position].offsets[dimension] + regions[position].shape[dimension])
            return furthest
        }
    }

    /// The positions, ascending, of the boxes that share an element with a region.
    package func positions(meeting query: Region) -> [Int] {
        order[candidates(meeting: query)].filter { regions[$0].overlaps(query) }.sorted()
    }

    /// Which of ``order`` may meet a region, judged by one dimension.
    package func candidates(meeting query: Region) -> Range<Int> {
        guard let dimension, dimension < query.offsets.count else { return order.indices }
        let begin = query.offsets[dimension], end = begin + query.shape[dimension]
        let first = furthestEnds.firstPosition { $0 > begin }
        let last = order.firstPosition { regions[$0].offsets[dimension] >= end }
        return first..<max(first, last)
    }
}
