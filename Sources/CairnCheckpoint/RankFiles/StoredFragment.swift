import CairnBase
import CairnTensor

/// A fragment as a rank file holds it.
struct StoredFragment: Sendable {
    /// Its name in the file's safetensors header.
    var key: String
    /// The fully-qualified name of the whole tensor.
    var name: String
    var scalarType: ScalarType
    var globalShape: Shape
    var region: Region
    var codec: ChunkCodec
    /// Where its stored bytes are, from the start of the file's data.
    var byteRange: Range<Int>
    var chunks: [StoredChunk]

    /// The bytes of the fragment itself.
    var byteCount: Int { scalarType.byteCount(elementCount: region.elementCount) ?? 0 }
}

/// A run of a fragment's bytes with a checksum of its own.
struct StoredChunk: Sendable, Hashable {
    /// Where its stored bytes begin, from the start of the file's data.
    var offset: Int
    /// How many bytes are stored; fewer than the chunk has when it is compressed.
    var byteCount: Int
    /// CRC-32C of the stored bytes.
    var checksum: UInt32
}
