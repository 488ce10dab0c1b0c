package import CairnBase
package import CairnTensor

/// A tensor whose numbers are stored with their bytes in the other order.
package struct SwappedTensor: ChecksummedContent {
    private let content: any TensorContent
    private let width: Int
    package var scalarType: ScalarType { content.scalarType }
    package var shape: Shape { content.shape }
    package var hasChecksums: Bool { content.isChecked }

    /// - Parameter width: How many bytes one number has; a complex one is two.
    package init(_ content: any TensorContent, width: Int) {
        self.content = content
        self.width = width
    }

    /// A tensor whose numbers are as wide as its type says.
    init(_ content: any TensorContent) {
        let type = content.scalarType
        self.init(content, width: (type.byteWidth ?? 1) / (type.isComplex ? 2 : 1))
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try content.read(region, into: &destination)
        destination.withUnsafeMutableBytes { bytes in
            switch width {
            case 2: Self.swap(bytes, as: UInt16.self)
            case 4: Self.swap(bytes, as: UInt32.self)
            case 8: Self.swap(bytes, as: UInt64.self)
            default: break
            }
        }
    }

    /// The bytes may begin anywhere.
    @inline(__always)
    private static func swap<Number: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: UnsafeMutableRawBufferPointer, as type: Number.Type
    ) {
        let width = MemoryLayout<Number>.size
        for offset in stride(from: 0, through: bytes.count - width, by: width) {
            let number = bytes.loadUnaligned(fromByteOffset: offset, as: type)
            bytes.storeBytes(of: number.byteSwapped, toByteOffset: offset, as: type)
        }
    }
}
