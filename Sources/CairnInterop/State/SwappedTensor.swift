package import CairnBase
package import CairnTensor

/// A tensor whose numbers are stored with their bytes in the other order.
package struct SwappedTensor: TensorContent {
    private let content: any TensorContent
    private let width: Int
    package var scalarType: ScalarType { content.scalarType }
    package var shape: Shape { content.shape }

    /// - Parameter width: How many bytes one number has; a complex one is two.
    package init(_ content: any TensorContent, width: Int) {
        self.content = content
        self.width = width
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try content.read(region, into: &destination)
        destination.withUnsafeMutableBytes { bytes in
            switch width {
            case 2: Self.swap(bytes.bindMemory(to: UInt16.self))
            case 4: Self.swap(bytes.bindMemory(to: UInt32.self))
            case 8: Self.swap(bytes.bindMemory(to: UInt64.self))
            default: break
            }
        }
    }

    @inline(__always)
    private static func swap<Number: FixedWidthInteger>(_ numbers: UnsafeMutableBufferPointer<Number>) {
        for index in numbers.indices { numbers[index] = numbers[index].byteSwapped }
    }
}
