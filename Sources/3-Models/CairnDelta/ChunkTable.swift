import CairnBase
import CairnTensor

/// Where the changes of each chunk of a tensor are: behind the chunks themselves, twelve bytes for each.
///
/// ```
/// u32  how many bytes of the tensor the chunk has
/// u32  how many bytes its changes take; 0 where the base's elements stay
/// u32  CRC-32C of those
/// ```
struct ChunkTable: Sendable {
    struct Chunk: Sendable, Equatable {
        /// Which bytes of the tensor.
        var bytes: Range<Int>
        /// Where the changes are, from the begin of the file's changes.
        var stored: Range<Int>
        var checksum: UInt32
    }

    static let entryByteCount = 12
    /// The largest chunk that is read: more memory is not taken for a claim.
    static let greatestChunkByteCount = 64 << 20

    /// In order; together the whole tensor.
    let chunks: [Chunk]

    /// Reads a table that follows the changes.
    ///
    /// - Parameters:
    ///   - bytes: The table.
    ///   - begin: Where the changes of the tensor begin.
    ///   - end: Where they end and the table begins.
    init(
        _ bytes: [UInt8], of tensor: TensorExtent, changes begin: Int, _ end: Int
    ) throws(CairnError) {
        var chunks: [Chunk] = []
        var (offset, place) = (0, begin)
        func number(_ index: Int) -> Int { Int(bytes.littleEndian(UInt32.self, at: index)) }
        for index in stride(from: 0, to: bytes.count, by: Self.entryByteCount) {
            let count = number(index), stored = number(index + 4)
            guard count > 0, count <= Self.greatestChunkByteCount, count.isMultiple(of: tensor.elementByteCount),
                count <= tensor.byteCount - offset, stored <= end - place
            else { throw CairnError(.malformed, "the table of the delta's chunks does not fit the tensor") }
            chunks.append(
                Chunk(
                    bytes: offset..<offset + count, stored: place..<place + stored,
                    checksum: bytes.littleEndian(UInt32.self, at: index + 8)))
            offset += count
            place += stored
        }
        guard offset == tensor.byteCount, place == end else {
            throw CairnError(.malformed, "the table of the delta's chunks does not cover the tensor")
        }
        self.chunks = chunks
    }

    /// The first chunk that ends behind a byte of the tensor.
    func firstChunk(endingAfter offset: Int) -> Int {
        var (low, high) = (0, chunks.count)
        while low < high {
            let middle = (low + high) / 2
            if chunks[middle].bytes.upperBound > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// An entry as it is written.
    static func write(byteCount: Int, stored: [UInt8], to table: inout [UInt8]) {
        table.append(littleEndian: UInt32(truncatingIfNeeded: byteCount))
        table.append(littleEndian: UInt32(truncatingIfNeeded: stored.count))
        table.append(littleEndian: CRC32C.checksum(stored.span.bytes))
    }
}

/// How many bytes a tensor has, and each of what cannot be cut: an element, or a byte of packed ones.
struct TensorExtent {
    let byteCount: Int
    let elementByteCount: Int

    init(byteCount: Int, _ scalarType: ScalarType) {
        self.byteCount = byteCount
        elementByteCount = scalarType.byteWidth ?? 1
    }
}
