package import CairnBase

/// Writes the file of a rank from fragments that are held: several threads checksum or compress its pieces and hand them to the
/// storage, and each fragment is released as soon as its last byte has been handed over.
package struct RankFileWriter: Sendable {
    /// Whose threads help; the calling thread is one of the writers.
    package let threads: ThreadPool
    /// How many pieces are written at once.
    package let width: Int
    /// The fragments that are written first, in this order; `nil` for the order of the file.
    package let order: [Int]?
    /// Called before each piece, on the thread that writes it; throwing stops the save.
    package let willWrite: @Sendable () throws -> Void
    /// Called when a fragment has been released.
    package let didRelease: @Sendable () -> Void
    /// Called with the number of bytes just written; throwing stops the save.
    package let progress: @Sendable (Int) throws -> Void

    package init(
        threads: ThreadPool, width: Int, order: [Int]? = nil, willWrite: @escaping @Sendable () throws -> Void = {},
        didRelease: @escaping @Sendable () -> Void = {}, progress: @escaping @Sendable (Int) throws -> Void
    ) {
        self.threads = threads
        self.width = width
        self.order = order
        self.willWrite = willWrite
        self.didRelease = didRelease
        self.progress = progress
    }

    /// Writes all pieces. The file is not durable yet.
    package func write(_ fragments: [HeldFragment], to builder: RankFileBuilder) throws {
        let pieces = order.map { builder.pieces(inOrder: $0) } ?? builder.pieces
        let left = PieceCounts(pieces.map(\.fragment), fragmentCount: fragments.count)
        // What has no bytes has no pieces either.
        for (index, fragment) in fragments.enumerated() where left.isDone(index) { fragment.release() }
        try threads.forEach(pieces.count, width: width) { index in
            try willWrite()
            let piece = pieces[index]
            let fragment = fragments[piece.fragment]
            try fragment.withBytes(piece.byteRange) { try builder.write(piece, from: $0) }
            if left.finishPiece(of: piece.fragment) {
                fragment.release()
                didRelease()
            }
            try progress(piece.byteRange.count)
        }
    }
}

/// How many pieces of each fragment are still to be written.
private final class PieceCounts: Sendable {
    private let counts: Monitor<[Int]>

    init(_ fragments: [Int], fragmentCount: Int) {
        var counts = [Int](repeating: 0, count: fragmentCount)
        for fragment in fragments { counts[fragment] += 1 }
        self.counts = Monitor(counts)
    }

    func isDone(_ fragment: Int) -> Bool { counts.change { $0[fragment] == 0 } }

    /// Whether it was the fragment's last one.
    func finishPiece(of fragment: Int) -> Bool {
        counts.change { counts in
            counts[fragment] -= 1
            return counts[fragment] == 0
        }
    }
}
