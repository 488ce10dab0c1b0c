package import CairnBase
import CairnStorage
package import CairnTensor

/// Writes a rank file front to back, uncompressed: every fragment has its offset from the start and its bytes are appended in
/// order, those of several fragments in turns if need be. Checksums are computed on the way, so no byte is read twice.
///
/// `@unchecked Sendable`: its owner calls it from one thread at a time.
package final class RankFileAppender: @unchecked Sendable {
    /// How much of a fragment has been written.
    private struct Progress {
        var position: Int
        var written = 0
        var checksum: UInt32 = 0
    }

    private let envelope: RankFileEnvelope
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
        envelope = try RankFileEnvelope(session, rank: rank, fragments, values: values, isStreamed: true)
        stored = envelope.plan.items.map(\.stored)
        for index in stored.indices { stored[index].chunks = [] }
        progress = [Progress](repeating: Progress(position: 0), count: fragments.count)
        for (position, item) in envelope.plan.items.enumerated() { progress[item.request].position = position }
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
                .init(file: envelope.writer.key, tensor: stored[state.position].name, rank: envelope.metadata.rank))
        }
        try envelope.write(bytes, at: range.lowerBound + state.written)
        let chunkByteCount = envelope.metadata.chunkByteCount
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

    /// Releases memory until the next bytes come, for a caller that continues with another file first.
    package func pause() { envelope.writer.pause() }

    /// Makes the file durable and part of its save.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the tensor, when bytes are missing; what the storage throws.
    package func finish() throws(CairnError) {
        for index in progress.indices where !isComplete(index) {
            let fragment = stored[progress[index].position]
            throw envelope.incomplete(
                fragment.name, expected: fragment.byteRange.count, found: progress[index].written)
        }
        try envelope.finish(stored)
    }

    /// Gives up and removes the file, unless it is part of its save already.
    package func discard() { envelope.writer.discard() }
}
