package import CairnBase
package import CairnTensor

/// A tensor with its dimensions in another order.
package struct TransposedView: TensorView {
    private let base: any TensorView
    /// Dimension i of this tensor is `order[i]` of the base.
    private let order: [Int]
    package let shape: Shape
    private let width: Int

    package var scalarType: ScalarType { base.scalarType }
    package var hasChecksums: Bool { base.hasChecksums }

    package init(_ base: any TensorView, order: [Int]) throws(CairnError) {
        guard let width = base.scalarType.byteWidth else {
            throw CairnError(.unsupported, "the dimensions of packed elements cannot be exchanged")
        }
        self.base = base
        self.order = order
        self.width = width
        shape = try Shape(checking: order.map { base.shape[$0] })
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        var offsets = [Int](repeating: 0, count: order.count)
        var extents = offsets
        for (index, dimension) in order.enumerated() {
            offsets[dimension] = region.offsets[index]
            extents[dimension] = region.shape[index]
        }
        let source = try Region(offsets: offsets, shape: Shape(checking: extents))
        let block = try base.bytes(of: source)
        let sourceStrides = source.shape.strides
        let strides = order.map { sourceStrides[$0] }
        block.withUnsafeBytes { input in
            destination.withUnsafeMutableBytes { output in
                switch width {
                case 1: Self.copy(input, output, region.shape.extents, strides, as: UInt8.self)
                case 2: Self.copy(input, output, region.shape.extents, strides, as: UInt16.self)
                case 4: Self.copy(input, output, region.shape.extents, strides, as: UInt32.self)
                default: Self.copy(input, output, region.shape.extents, strides, as: UInt64.self)
                }
            }
        }
    }

    /// Writes the elements front to back, taking each from where its strides say.
    @inline(__always)
    private static func copy<Element: FixedWidthInteger & BitwiseCopyable>(
        _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer, _ extents: [Int], _ strides: [Int],
        as type: Element.Type
    ) {
        let size = MemoryLayout<Element>.size
        let inner = extents.last ?? 1, innerStride = strides.last ?? 1
        let outer = Array(extents.dropLast())
        var index = [Int](repeating: 0, count: outer.count)
        var from = 0, to = 0
        let count = outer.reduce(1, *)
        for _ in 0..<count {
            var position = from
            for _ in 0..<inner {
                output.storeBytes(
                    of: input.loadUnaligned(fromByteOffset: position * size, as: Element.self),
                    toByteOffset: to * size, as: Element.self)
                position += innerStride
                to += 1
            }
            var dimension = outer.count - 1
            while dimension >= 0 {
                index[dimension] += 1
                from += strides[dimension]
                if index[dimension] < outer[dimension] { break }
                from -= strides[dimension] * outer[dimension]
                index[dimension] = 0
                dimension -= 1
            }
        }
    }
}
