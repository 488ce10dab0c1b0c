package import CairnBase
package import CairnTensor

/// A tensor whose numbers are stored with their bytes in the other order.
package struct ByteSwappedView: TensorView {
    private let base: any TensorView
    private let width: Int
    package var scalarType: ScalarType { base.scalarType }
    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameter width: How many bytes one number has; a complex one is two. By default as many as the type says.
    package init(_ base: any TensorView, width: Int? = nil) {
        self.base = base
        let type = base.scalarType
        self.width = width ?? (type.byteWidth ?? 1) / (type.isComplex ? 2 : 1)
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
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

/// A tensor that is stored with the other sign, as PyTorch does for lazy negation and complex conjugation.
package struct NegatedView: TensorView {
    private let base: any TensorView
    private let isConjugated: Bool
    private let isNegated: Bool
    package var scalarType: ScalarType { base.scalarType }
    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameters:
    ///   - isConjugated: Whether imaginary parts have the other sign.
    ///   - isNegated: Whether all numbers have.
    package init(_ base: any TensorView, isConjugated: Bool, isNegated: Bool) {
        self.base = base
        self.isConjugated = isConjugated
        self.isNegated = isNegated
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
        let isComplex = scalarType.isComplex
        let width = (scalarType.byteWidth ?? 1) / (isComplex ? 2 : 1)
        destination.withUnsafeMutableBytes { bytes in
            // The sign is the top bit of the last byte of every number.
            for number in 0..<bytes.count / width {
                let isImaginary = isComplex && number % 2 == 1
                if isNegated != (isConjugated && isImaginary) { bytes[number * width + width - 1] ^= 0x80 }
            }
        }
    }
}
