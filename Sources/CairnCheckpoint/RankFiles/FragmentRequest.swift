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
            codec: .raw)
        if let range = compression.sampleRange(byteCount: fragment.tensor.byteCount, chunkByteCount: chunkByteCount) {
            codec = compression.codec(sample: fragment.tensor.bytes.extracting(range), scalarType)
        }
    }
}

extension Compression {
    /// Which bytes of a fragment tell whether it is worth compressing: a chunk from its middle. `nil` when it is not, whatever
    /// they are.
    package func sampleRange(byteCount: Int, chunkByteCount: Int) -> Range<Int>? {
        guard level != nil, byteCount >= Self.leastByteCount else { return nil }
        let middle = byteCount / 2 / chunkByteCount * chunkByteCount
        return middle..<min(byteCount, middle + chunkByteCount)
    }

    /// How a fragment is stored whose bytes are not there yet. Chunks that do not get smaller stay as they are.
    package func codec(ofStreamed byteCount: Int) -> ChunkCodec { level == nil || byteCount < Self.leastByteCount ? .raw : .zstdPlanes }

    private static var leastByteCount: Int { 1024 }

    /// How a fragment is best stored, judged by that sample.
    package func codec(sample: RawSpan, _ scalarType: ScalarType) -> ChunkCodec {
        guard let level else { return .raw }
        return ChunkCompression.compress(sample, scalarType, level: level) == nil ? .raw : .zstdPlanes
    }
}
