/// The contiguous runs of elements that a region has in its row-major tensor, in order.
///
/// Trailing dimensions that the region covers whole are folded into the run, so a whole tensor is one run.
package struct RegionRuns: Sequence, IteratorProtocol {
    /// Elements in each run.
    package let runLength: Int
    /// How many runs there are.
    package let count: Int

    private let outerExtents: [Int]
    private let outerStrides: [Int]
    private var index: [Int]
    private var offset: Int
    private var remaining: Int

    /// The runs of `region` in a tensor of `shape`; the region must lie inside.
    package init(of region: Region, in shape: Shape) {
        let strides = shape.strides
        // Dimensions from `inner` on form one run: all behind it are whole.
        var inner = shape.dimensionCount
        var length = 1
        while inner > 0 {
            inner -= 1
            length *= region.shape[inner]
            if region.shape[inner] != shape[inner] { break }
        }
        runLength = length
        outerExtents = Array(region.shape.extents.prefix(inner))
        outerStrides = Array(strides.prefix(inner))
        count = region.elementCount == 0 ? 0 : outerExtents.reduce(1, *)
        index = [Int](repeating: 0, count: inner)
        offset = zip(region.offsets, strides).reduce(0) { $0 + $1.0 * $1.1 }
        remaining = count
    }

    /// The element offset of the next run.
    package mutating func next() -> Int? {
        guard remaining > 0 else { return nil }
        remaining -= 1
        let current = offset
        var dimension = outerExtents.count - 1
        while dimension >= 0 {
            index[dimension] += 1
            offset += outerStrides[dimension]
            if index[dimension] < outerExtents[dimension] { break }
            offset -= outerStrides[dimension] * outerExtents[dimension]
            index[dimension] = 0
            dimension -= 1
        }
        return current
    }
}
