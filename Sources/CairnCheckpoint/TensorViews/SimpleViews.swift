package import CairnBase
package import CairnTensor

/// A tensor that is in memory already.
package struct HeldView: TensorView {
    private let tensor: Tensor
    package var scalarType: ScalarType { tensor.scalarType }
    package var shape: Shape { tensor.shape }

    package init(_ tensor: Tensor) { self.tensor = tensor }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        try RegionCopy.copy(
            tensor.scalarType, from: tensor.bytes, of: tensor.shape, region: region, into: &destination,
            of: region.shape, region: Region(whole: region.shape))
    }
}

/// A tensor of zeros.
package struct ZeroView: TensorView {
    package let scalarType: ScalarType
    package let shape: Shape

    package init(_ scalarType: ScalarType, _ shape: Shape) {
        self.scalarType = scalarType
        self.shape = shape
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        destination.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
    }
}

/// A tensor of a checkpoint.
package struct ReaderView: TensorView {
    private let reader: any CheckpointReader
    private let name: String
    package let scalarType: ScalarType
    package let shape: Shape

    package init(_ reader: any CheckpointReader, _ description: TensorDescription) {
        self.reader = reader
        name = description.name
        scalarType = description.scalarType
        shape = description.shape
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try reader.read(name, region: region, into: &destination)
    }
}

/// A tensor that is opened anew for every read: there may be more files than may be open at once.
package struct DeferredView: TensorView {
    package let scalarType: ScalarType
    package let shape: Shape
    private let open: @Sendable () throws(CairnError) -> any TensorView

    package init(
        _ scalarType: ScalarType, _ shape: Shape, open: @escaping @Sendable () throws(CairnError) -> any TensorView
    ) {
        self.scalarType = scalarType
        self.shape = shape
        self.open = open
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try open().read(region, into: &destination)
    }
}
