import CairnBase
package import CairnTensor

/// A fragment that a rank file is to hold: all that is known of it before its bytes.
package struct FragmentRequest: Sendable {
    /// The fully-qualified name of the whole tensor.
    package var name: String
    package var scalarType: ScalarType
    package var globalShape: Shape
    /// The part of the whole tensor that the fragment is.
    package var region: Region
    package var codec: ChunkCodec

    package init(
        name: String, scalarType: ScalarType, globalShape: Shape, region: Region, codec: ChunkCodec = .raw
    ) {
        self.name = name
        self.scalarType = scalarType
        self.globalShape = globalShape
        self.region = region
        self.codec = codec
    }

    /// What asks for the place of `fragment`, compressed if a sample of it gets smaller.
    package init(_ fragment: TensorFragment, _ compression: Compression, chunkByteCount: Int) {
        self.init(
            name: fragment.name, scalarType: fragment.tensor.scalarType, globalShape: fragment.globalShape,
            region: fragment.region,
            codec: compression.codec(fragment.tensor.bytes, fragment.tensor.scalarType, chunkByteCount))
    }
}

extension Compression {
    /// How a fragment is best stored, judged by one chunk from its middle.
    package func codec(_ bytes: RawSpan, _ scalarType: ScalarType, _ chunkByteCount: Int) -> ChunkCodec {
        guard let level, bytes.byteCount >= 1024 else { return .raw }
        let middle = bytes.byteCount / 2 / chunkByteCount * chunkByteCount
        let sample = bytes.extracting(middle..<min(bytes.byteCount, middle + chunkByteCount))
        return ChunkCompression.compress(sample, scalarType, level: level) == nil ? .raw : .zstdPlanes
    }
}
