package import CairnTensor

/// Cuts a tensor into regions that follow each other in memory, each of at most so many bytes where the shape allows.
package struct SlabSequence: Sequence {
    private let shape: Shape
    private let rows: Int
    private let dimension: Int

    /// - Parameter byteLimit: the most bytes of one slab. A single element row of packed type is never cut.
    package init(of tensor: TensorDescription, byteLimit: Int) {
        shape = tensor.shape
        let bits = tensor.scalarType.bitWidth
        let limit = Swift.max(1, byteLimit) * 8 / bits
        // The first dimension below which one slice fits the limit is the one that is cut.
        var inner = shape.elementCount
        var dimension = 0
        for (index, extent) in shape.extents.enumerated() {
            dimension = index
            inner = extent == 0 ? 0 : inner / extent
            // Packed elements are cut only where a slice is whole bytes.
            let next = index + 1 < shape.dimensionCount ? inner / Swift.max(1, shape[index + 1]) : 0
            if inner <= limit || (tensor.scalarType.isPacked && next * bits % 8 != 0) || next == 0 { break }
        }
        self.dimension = dimension
        let fitting = inner == 0 ? 1 : Swift.max(1, limit / inner)
        // Eight rows of packed elements always end at a byte.
        rows = tensor.scalarType.isPacked ? Swift.max(8, fitting / 8 * 8) : fitting
    }

    package func makeIterator() -> AnyIterator<Region> {
        guard shape.elementCount > 0 else { return AnyIterator { nil } }
        guard shape.dimensionCount > 0 else {
            var done = false
            return AnyIterator {
                defer { done = true }
                return done ? nil : Region(whole: .scalar)
            }
        }
        var outer = [Int](repeating: 0, count: dimension)
        var row = 0
        var finished = false
        return AnyIterator {
            if finished { return nil }
            let height = Swift.min(rows, shape[dimension] - row)
            let offsets = outer + [row] + [Int](repeating: 0, count: shape.dimensionCount - dimension - 1)
            let extents =
                [Int](repeating: 1, count: dimension) + [height] + Array(shape.extents.dropFirst(dimension + 1))
            row += height
            if row >= shape[dimension] {
                row = 0
                var index = dimension - 1
                while index >= 0 {
                    outer[index] += 1
                    if outer[index] < shape[index] { break }
                    outer[index] = 0
                    index -= 1
                }
                finished = index < 0
            }
            return try? Region(offsets: offsets, shape: Shape(extents))
        }
    }
}
