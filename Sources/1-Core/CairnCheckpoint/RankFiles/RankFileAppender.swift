package import CairnBase
import CairnStorage
import CairnTensor

/// Writes a rank file front to back: every fragment's bytes are appended in order, those of several fragments in turns if need
/// be. Checksums are computed on the way, so no byte is read twice.
///
/// What is stored as it is goes to its place at once. Compressed fragments are collected chunk by chunk; they are best appended
/// in the order of their names, since a chunk that comes before its turn waits in memory, compressed.
///
/// `@unchecked Sendable`: its owner calls it from one thread at a time.
package final class RankFileAppender: @unchecked Sendable {
    /// How much of a fragment has been written, and of its current chunk the checksum or, to be compressed, the bytes.
    private struct Progress {
        var written = 0
        var checksum: UInt32 = 0
        var chunk: [UInt8] = []
    }

    private let builder: RankFileBuilder
    private let compressing: CompressingThreads?
    private let chunkByteCount: Int
    /// In the order in which the fragments were given.
    private var progress: [Progress]

    /// Makes the file of a rank of a save, without any data yet.
    ///
    /// - Parameter compressesAside: Whether chunks are compressed by threads of their own, some of them at once, rather than by
    ///   the caller's.
    /// - Throws: ``CairnError/Code/invalidArgument`` when sizes overflow; what the storage throws.
    package init(
        _ session: SaveSession, rank: Int, fragments: [FragmentRequest], values: [NamedValue] = [],
        compressesAside: Bool = false
    ) throws(CairnError) {
        builder = try RankFileBuilder(session, rank: rank, fragments, values: values, isStreamed: true)
        chunkByteCount = builder.envelope.metadata.chunkByteCount
        let isCompressed = fragments.contains { $0.codec != .raw }
        compressing = compressesAside && isCompressed ? CompressingThreads(builder) : nil
        progress = [Progress](repeating: Progress(), count: fragments.count)
    }

    /// Whether all bytes of a fragment have come.
    package func isComplete(_ fragment: Int) -> Bool { progress[fragment].written == builder.stored(fragment).byteCount }

    /// Writes the next bytes of a fragment.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for more bytes than it has; what the storage throws.
    package func append(_ bytes: RawSpan, to fragment: Int) throws(CairnError) {
        let stored = builder.stored(fragment)
        guard bytes.byteCount <= stored.byteCount - progress[fragment].written else {
            throw CairnError(
                .invalidArgument, "more bytes than the tensor has",
                .init(
                    file: builder.envelope.writer.key, tensor: stored.name, rank: builder.envelope.metadata.rank))
        }
        if stored.codec == .raw {
            try builder.envelope.write(bytes, at: stored.byteRange.lowerBound + progress[fragment].written)
        }
        var begin = 0
        while begin < bytes.byteCount {
            let written = progress[fragment].written
            let end = min(bytes.byteCount, begin + chunkByteCount - written % chunkByteCount)
            try append(bytes.extracting(begin..<end), to: fragment, stored)
            begin = end
        }
    }

    /// Takes bytes of one chunk.
    private func append(_ bytes: RawSpan, to fragment: Int, _ stored: StoredFragment) throws(CairnError) {
        if stored.codec == .raw {
            progress[fragment].checksum = CRC32C.checksum(bytes, continuing: progress[fragment].checksum)
        } else {
            if progress[fragment].chunk.isEmpty {
                progress[fragment].chunk.reserveCapacity(
                    min(chunkByteCount, stored.byteCount - progress[fragment].written))
            }
            bytes.withUnsafeBytes { progress[fragment].chunk.append(contentsOf: $0) }
        }
        let begin = progress[fragment].written
        let end = begin + bytes.byteCount
        progress[fragment].written = end
        guard end % chunkByteCount == 0 || end == stored.byteCount else { return }
        let index = begin / chunkByteCount
        let piece = builder.piece(fragment, chunk: index)
        guard stored.codec != .raw else {
            let chunk = StoredChunk(
                offset: stored.byteRange.lowerBound + index * chunkByteCount, byteCount: end - index * chunkByteCount,
                checksum: progress[fragment].checksum)
            progress[fragment].checksum = 0
            return builder.noteWritten(piece, chunk)
        }
        let chunk = progress[fragment].chunk
        progress[fragment].chunk = []
        if let compressing { return try compressing.write(piece, chunk) }
        try builder.write(piece, from: chunk.span.bytes)
    }

    /// Releases memory until the next bytes come, for a caller that continues with another file first.
    package func pause() { builder.envelope.writer.pause() }

    /// Makes the file durable and part of its save.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the tensor, when bytes are missing; what the storage throws.
    package func finish() throws(CairnError) {
        try compressing?.wait()
        for index in progress.indices where !isComplete(index) {
            let fragment = builder.stored(index)
            throw builder.envelope.incomplete(
                fragment.name, expected: fragment.byteCount, found: progress[index].written)
        }
        try builder.finish()
    }

    /// Gives up and removes the file, unless it is part of its save already.
    package func discard() {
        try? compressing?.wait()
        builder.discard()
    }
}

/// Threads that compress and write chunks while the next ones come.
private final class CompressingThreads: Sendable {
    private struct State {
        var count = 0
        var failure: CairnError?
    }

    private enum Turn {
        case go
        case failed(CairnError)
    }

    private let builder: RankFileBuilder
    private let threads = ThreadPool(threadCount: ThreadPool.processorCount)
    /// The most chunks at once: as many again wait, so that no thread does.
    private let limit = 2 * ThreadPool.processorCount
    private let state = Monitor(State())

    init(_ builder: RankFileBuilder) { self.builder = builder }

    /// Has a chunk written, at some time; waits while there are too many.
    ///
    /// - Throws: What an earlier one threw.
    func write(_ piece: RankFileBuilder.Piece, _ bytes: [UInt8]) throws(CairnError) {
        let turn = state.wait { [limit] state -> Turn? in
            if let failure = state.failure { return .failed(failure) }
            guard state.count < limit else { return nil }
            state.count += 1
            return .go
        }
        if case .failed(let failure)? = turn { throw failure }
        threads.submit {
            var failure: CairnError?
            do throws(CairnError) {
                try self.builder.write(piece, from: bytes.span.bytes)
            } catch {
                failure = error
            }
            self.state.change { [failure] state in
                state.count -= 1
                state.failure = state.failure ?? failure
            }
        }
    }

    /// Waits until none is being written.
    ///
    /// - Throws: What one of them threw.
    func wait() throws(CairnError) {
        let turn = state.wait { state -> Turn? in
            state.count == 0 ? state.failure.map(Turn.failed) ?? .go : nil
        }
        if case .failed(let failure)? = turn { throw failure }
    }
}

/// What encloses the data of a rank file that is being written: its plan, the space reserved for its header, and the save
/// that it belongs to.
struct RankFileEnvelope: Sendable {
    let session: SaveSession
    let metadata: RankFileMetadata
    let plan: RankFilePlan
    let writer: any StorageWriter

    /// Makes the file of a rank, without any data yet.
    ///
    /// - Parameter isStreamed: Whether its bytes come one after the other, rather than from many threads.
    /// - Throws: ``CairnError/Code/invalidArgument`` when sizes overflow; what the storage throws.
    init(
        _ session: SaveSession, rank: Int, _ requests: [FragmentRequest], values: [NamedValue],
        isStreamed: Bool = false
    ) throws(CairnError) {
        self.session = session
        metadata = try session.metadata(ofRank: rank, values: values)
        plan = try RankFilePlan(requests, metadata: metadata)
        let key = session.prefix + session.fileName(rank)
        let byteCount = plan.headerByteCount.adding(checked: plan.dataByteCount)
        writer =
            isStreamed
            ? try session.storage.createStreamed(key, byteCount: byteCount)
            : try session.storage.create(key, byteCount: byteCount)
    }

    /// Writes bytes at an offset of the data, and sends them on their way to the device.
    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        let position = plan.headerByteCount + offset
        try writer.write(bytes, at: position)
        writer.startWriteback(at: position, byteCount: bytes.byteCount)
    }

    /// Writes the header into the space reserved for it, makes the file durable and hands it to the save.
    ///
    /// - Parameter stored: In the order of the plan, with all chunks.
    func finish(_ stored: [StoredFragment]) throws(CairnError) {
        let header = try RankFilePlan.header(stored, metadata, minimumByteCount: plan.headerByteCount)
        guard header.count == plan.headerByteCount else {
            throw CairnError(
                .invalidArgument, "the header is longer than the space reserved for it",
                .init(file: writer.key, expected: "\(plan.headerByteCount)", found: "\(header.count)"))
        }
        let byteCount = header.count + (stored.last?.byteRange.upperBound ?? 0)
        try writer.write(header, at: 0)
        do throws(CairnError) {
            try writer.finish(byteCount: byteCount)
        } catch {
            // It may have got its name, which has the save's id, before the error: then nobody knows of it.
            try? session.storage.delete([writer.key])
            throw error
        }
        let file = Manifest.File(
            name: writer.key.split(separator: "/").last.map(String.init) ?? writer.key, rank: metadata.rank,
            byteCount: byteCount, headerByteCount: header.count, headerChecksum: CRC32C.checksum(header.span.bytes))
        try session.accept(rank: metadata.rank, file, stored)
    }

    /// The error of a file that is to be finished although bytes of a fragment have not come.
    func incomplete(_ name: String, expected: Int, found: Int) -> CairnError {
        CairnError(
            .incomplete, "the checkpoint ends before every announced byte was written",
            .init(file: writer.key, tensor: name, rank: metadata.rank, expected: "\(expected) bytes", found: "\(found)"))
    }
}
