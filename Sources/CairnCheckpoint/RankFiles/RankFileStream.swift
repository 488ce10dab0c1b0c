package import CairnBase
import CairnStorage
package import CairnTensor

/// A rank file written piece by piece, uncompressed: every fragment has its place from the start and is filled front to
/// back, several side by side if need be; checksums run along, so no byte is seen twice.
///
/// `@unchecked Sendable`: whoever holds a stream calls it from one thread at a time.
package final class RankFileStream: @unchecked Sendable {
    /// How far a fragment has come.
    private struct Progress {
        var position: Int
        var written = 0
        var checksum: UInt32 = 0
    }

    private let frame: RankFileFrame
    /// In the order of the file.
    private var stored: [StoredFragment]
    /// In the order in which the fragments were given.
    private var progress: [Progress]

    /// Makes the file of a rank of a save, without any data yet.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when sizes overflow; what the storage throws.
    package init(
        _ session: SaveSession, rank: Int, fragments: [FragmentRequest], values: [(name: String, value: Value)] = []
    ) throws(CairnError) {
        frame = try RankFileFrame(session, rank: rank, fragments, values: values, isStreamed: true)
        stored = frame.plan.items.map(\.stored)
        for index in stored.indices { stored[index].chunks = [] }
        progress = [Progress](repeating: Progress(position: 0), count: fragments.count)
        for (position, item) in frame.plan.items.enumerated() { progress[item.request].position = position }
    }

    /// Whether all bytes of a fragment are written.
    package func isComplete(_ fragment: Int) -> Bool {
        progress[fragment].written == stored[progress[fragment].position].byteRange.count
    }

    /// Writes the next bytes of a fragment.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for more bytes than it has; what the storage throws.
    package func append(_ bytes: RawSpan, to fragment: Int) throws(CairnError) {
        var state = progress[fragment]
        let range = stored[state.position].byteRange
        guard bytes.byteCount <= range.count - state.written else {
            throw CairnError(
                .invalidArgument, "more bytes than the tensor has",
                .init(file: frame.writer.key, tensor: stored[state.position].name, rank: frame.metadata.rank))
        }
        try frame.write(bytes, at: range.lowerBound + state.written)
        let chunkByteCount = frame.metadata.chunkByteCount
        var begin = 0
        while begin < bytes.byteCount {
            let end = min(bytes.byteCount, begin + chunkByteCount - state.written % chunkByteCount)
            state.checksum = CRC32C.checksum(bytes.extracting(begin..<end), continuing: state.checksum)
            state.written += end - begin
            begin = end
            if state.written % chunkByteCount == 0 || state.written == range.count {
                let index = stored[state.position].chunks.count
                stored[state.position].chunks.append(StoredChunk(
                    offset: range.lowerBound + index * chunkByteCount,
                    byteCount: state.written - index * chunkByteCount, checksum: state.checksum))
                state.checksum = 0
            }
        }
        progress[fragment] = state
    }

    /// Lets go of memory, for whoever goes on with another file first.
    package func pause() { frame.writer.pause() }

    /// Makes the file durable and part of its save.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the tensor, when bytes are missing; what the storage throws.
    package func finish() throws(CairnError) {
        for index in progress.indices where !isComplete(index) {
            let fragment = stored[progress[index].position]
            throw frame.incomplete(
                fragment.name, expected: fragment.byteRange.count, found: progress[index].written)
        }
        try frame.finish(stored)
    }

    /// Gives up and removes the file, unless it is part of its save already.
    package func discard() { frame.writer.discard() }
}
