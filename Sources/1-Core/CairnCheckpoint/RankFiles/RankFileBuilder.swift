package import CairnBase
import CairnStorage
import CairnTensor
import Synchronization

/// Builds one rank's file: every fragment has its offset from the start and is cut into pieces, which are checksummed and
/// written in any order and from any threads, so that the caller can release the bytes piece by piece.
///
/// The offset of a compressed piece follows from the lengths of those before it. One that is written before its turn is
/// kept in memory, compressed, until then: write compressed pieces in the order of ``pieces``.
package final class RankFileBuilder: Sendable {
    /// A run of a fragment's chunks that is written at once.
    package struct Piece: Sendable, Hashable {
        /// The fragment, counted as it was asked for.
        package let fragment: Int
        /// Which of the fragment's chunks.
        package let chunks: Range<Int>
        /// The bytes of the fragment that they are, before compression.
        package let byteRange: Range<Int>
        /// Its position among all pieces.
        fileprivate let index: Int
    }

    /// What became of a piece.
    private enum PieceState: Sendable {
        case waiting
        case taken
        case written([StoredChunk])
    }

    /// Bytes that one thread checksums and writes at a time: large enough for the storage, small enough to share among threads.
    package static let pieceByteCount = 8 << 20

    /// All pieces in the order of the file.
    package let pieces: [Piece]
    /// How long the pieces have taken so far.
    package let times = BuildTimes()
    /// How many pieces are best written at once.
    package var usefulConcurrency: Int { envelope.writer.usefulConcurrency }
    let envelope: RankFileEnvelope
    /// For each fragment as it was asked for, its position in the file.
    private let positions: [Int]
    /// For each fragment as it was asked for, the first of its pieces.
    private let firstPieces: [Int]
    /// The first piece of the compressed fragments.
    private let firstCompressed: Int
    private let appender: OrderedAppender
    private let level: Int
    private let states: Monitor<[PieceState]>

    /// Makes the file of a rank of a save, without any data yet.
    ///
    /// - Parameters:
    ///   - requests: The fragments that the file will hold.
    ///   - values: Values that only this rank has.
    ///   - isStreamed: Whether the bytes come one after the other, through a ``RankFileAppender``: pieces are then single chunks.
    /// - Throws: ``CairnError/Code/invalidArgument`` for a rank that takes no part, and when sizes overflow; what the
    ///   storage throws.
    package init(
        _ session: SaveSession, rank: Int, _ requests: [FragmentRequest], values: [NamedValue] = [],
        isStreamed: Bool = false
    ) throws(CairnError) {
        envelope = try RankFileEnvelope(session, rank: rank, requests, values: values, isStreamed: isStreamed)
        level = session.compression.level
        let plan = envelope.plan
        let chunkByteCount = envelope.metadata.chunkByteCount
        let chunksPerPiece = isStreamed ? 1 : max(1, Self.pieceByteCount / chunkByteCount)
        var pieces: [Piece] = []
        var positions = [Int](repeating: 0, count: requests.count)
        var firstPieces = positions
        var firstCompressed: Int?
        for (position, item) in plan.items.enumerated() {
            positions[item.request] = position
            firstPieces[item.request] = pieces.count
            if position == plan.rawCount { firstCompressed = pieces.count }
            let (byteCount, chunkCount) = (item.stored.byteCount, item.stored.chunks.count)
            for first in stride(from: 0, to: chunkCount, by: chunksPerPiece) {
                let chunks = first..<min(chunkCount, first + chunksPerPiece)
                pieces.append(
                    Piece(
                        fragment: item.request, chunks: chunks,
                        byteRange: first * chunkByteCount..<min(byteCount, chunks.upperBound * chunkByteCount),
                        index: pieces.count))
            }
        }
        self.pieces = pieces
        self.positions = positions
        self.firstPieces = firstPieces
        self.firstCompressed = firstCompressed ?? pieces.count
        appender = OrderedAppender(from: plan.rawByteCount)
        states = Monitor([PieceState](repeating: .waiting, count: pieces.count))
    }

    /// Checksums or compresses a piece and writes it. When it returns, the bytes are no longer needed.
    ///
    /// - Parameter bytes: Those of the piece alone.
    /// - Throws: ``CairnError/Code/invalidArgument`` for bytes of another length, and for a piece that was written already or
    ///   is not of this file; what the storage throws, after which the file cannot be finished any more.
    package func write(_ piece: Piece, from bytes: RawSpan) throws(CairnError) {
        guard pieces.indices.contains(piece.index), pieces[piece.index] == piece,
            bytes.byteCount == piece.byteRange.count
        else {
            throw refusal("the bytes are not those of a piece of this file", piece)
        }
        let isNew = states.change { states in
            guard case .waiting = states[piece.index] else { return false }
            states[piece.index] = .taken
            return true
        }
        guard isNew else { throw refusal("a piece is written twice", piece) }
        let stored = envelope.plan.items[positions[piece.fragment]].stored
        let chunkByteCount = envelope.metadata.chunkByteCount
        let start = ContinuousClock.now
        guard stored.codec == .raw else {
            let run = OrderedAppender.Run(
                bytes, stored.scalarType, stored.codec, chunkByteCount: chunkByteCount, level: level)
            let encoded = ContinuousClock.now
            times.add(encode: encoded - start)
            defer { times.add(store: .now - encoded) }
            for placed in appender.add(run, at: piece.index - firstCompressed) { try write(placed) }
            return
        }
        let offset = stored.byteRange.lowerBound + piece.byteRange.lowerBound
        var chunks: [StoredChunk] = []
        for begin in stride(from: 0, to: bytes.byteCount, by: chunkByteCount) {
            let range = begin..<min(bytes.byteCount, begin + chunkByteCount)
            chunks.append(
                StoredChunk(
                    offset: offset + begin, byteCount: range.count, checksum: CRC32C.checksum(bytes.extracting(range))))
        }
        let encoded = ContinuousClock.now
        times.add(encode: encoded - start)
        defer { times.add(store: .now - encoded) }
        try envelope.write(bytes, at: offset)
        record(chunks, piece.index)
    }

    /// All pieces, fragment by fragment in the order of `fragments`; those of compressed fragments last, in the order of the
    /// file.
    package func pieces(inOrder fragments: [Int]) -> [Piece] {
        var ranks = [Int](repeating: .max, count: positions.count)
        for (rank, fragment) in fragments.enumerated() where ranks.indices.contains(fragment) { ranks[fragment] = rank }
        let raw = pieces[..<firstCompressed].sorted { (ranks[$0.fragment], $0.index) < (ranks[$1.fragment], $1.index) }
        return raw + pieces[firstCompressed...]
    }

    /// Makes the file durable and part of its save.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the tensor, when a piece has not been written; what the storage
    ///   throws.
    package func finish() throws(CairnError) {
        var stored = envelope.plan.items.map(\.stored)
        for index in stored.indices { stored[index].chunks = [] }
        for (piece, state) in zip(pieces, states.read { $0 }) {
            let position = positions[piece.fragment]
            guard case .written(let chunks) = state else {
                throw envelope.incomplete(
                    stored[position].name, expected: stored[position].byteCount, found: piece.byteRange.lowerBound)
            }
            stored[position].chunks += chunks
        }
        var end = envelope.plan.rawByteCount
        for position in stored.indices.dropFirst(envelope.plan.rawCount) {
            let begin = end
            end = stored[position].chunks.last.map { $0.offset + $0.byteCount } ?? begin
            stored[position].byteRange = begin..<end
        }
        try envelope.finish(stored)
    }

    /// Gives up and removes the file, unless it is part of its save already.
    package func discard() { envelope.writer.discard() }

    private func write(_ placed: OrderedAppender.Placed) throws(CairnError) {
        try placed.run.withBytes { (bytes) throws(CairnError) in try envelope.write(bytes, at: placed.offset) }
        var chunks = placed.run.chunks
        for index in chunks.indices { chunks[index].offset += placed.offset }
        record(chunks, firstCompressed + placed.index)
    }

    /// What is known of a fragment before its bytes.
    func stored(_ fragment: Int) -> StoredFragment { envelope.plan.items[positions[fragment]].stored }

    /// The piece of a fragment that begins with one of its chunks, in a file that is streamed.
    func piece(_ fragment: Int, chunk: Int) -> Piece { pieces[firstPieces[fragment] + chunk] }

    /// Notes that a piece is written: its bytes stand where those of a fragment that is stored as it is belong.
    func noteWritten(_ piece: Piece, _ chunk: StoredChunk) { record([chunk], piece.index) }

    private func record(_ chunks: [StoredChunk], _ index: Int) {
        states.change { $0[index] = .written(chunks) }
    }

    private func refusal(_ message: String, _ piece: Piece) -> CairnError {
        CairnError(
            .invalidArgument, message,
            .init(
                file: envelope.writer.key, rank: envelope.metadata.rank,
                found: "fragment \(piece.fragment), \(piece.byteRange)"))
    }
}

/// How long the pieces of a file took, in seconds added up over threads.
package final class BuildTimes: Sendable {
    private let encodeNanoseconds = Atomic<Int64>(0)
    private let storeNanoseconds = Atomic<Int64>(0)

    /// Checksums and compression.
    package var encode: Double { Double(encodeNanoseconds.load(ordering: .relaxed)) / 1e9 }
    /// Handing bytes to the storage.
    package var store: Double { Double(storeNanoseconds.load(ordering: .relaxed)) / 1e9 }

    func add(encode duration: Duration) { encodeNanoseconds.add(duration.nanoseconds, ordering: .relaxed) }

    func add(store duration: Duration) { storeNanoseconds.add(duration.nanoseconds, ordering: .relaxed) }
}

extension Duration {
    fileprivate var nanoseconds: Int64 { Int64(self / .nanoseconds(1)) }
}
