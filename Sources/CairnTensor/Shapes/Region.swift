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
    public func covers(_ shape: Shape) -> Bool {
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
