import CairnBase
package import CairnCommunication
package import CairnTensor

/// A stored fragment that several ranks of a group want parts of.
package struct SharedRead: Sendable {
    /// The fragment and what this rank wants of it; no targets where it wants nothing.
    package var own: FragmentRead
    /// What each rank of the group wants: regions of the whole tensor.
    package var wanted: [[Region]]

    package init(own: FragmentRead, wanted: [[Region]]) {
        self.own = own
        self.wanted = wanted
    }
}

extension CairnReader {
    /// The bytes that a group passes on at a time.
    private static let roundByteCount = 64 << 20

    /// A run of chunks that one rank reads and passes on.
    private struct SharedPiece {
        var read: Int
        var chunks: Range<Int>
        var byteCount: Int
    }

    /// Reads fragments with the other ranks of a group: each chunk that any of them needs is read once in the group, by
    /// the rank that has read least so far, and passed on to the others. All ranks call it together with the same
    /// fragments in the same order.
    ///
    /// Takes a buffer of at most 64 MiB: 8 MiB for each rank of the group, less in groups of more than eight. A chunk for
    /// each rank it takes in any case.
    ///
    /// - Returns: The bytes that this rank read.
    /// - Throws: On every rank the error of the rank that failed.
    @discardableResult
    package func read(_ reads: [SharedRead], over group: any Communicator) throws -> Int {
        do {
            let scatters = try reads.map { try scatter($0.own) }
            let rounds = deal(reads, scatters, ranks: group.size)
            var buffer: [UInt8] = []
            var readCount = 0
            for round in rounds {
                let counts = round.map { $0?.byteCount ?? 0 }
                let total = counts.reduce(0, +)
                if buffer.count < total { buffer = [UInt8](repeating: 0, count: total) }
                try buffer.withUnsafeMutableBytes { memory in
                    let slots = UnsafeMutableRawBufferPointer(rebasing: memory[..<total])
                    var begins = [0]
                    for count in counts { begins.append(begins[begins.count - 1] + count) }
                    if let piece = round[group.rank] {
                        let scatter = scatters[piece.read]
                        var own = UnsafeMutableRawBufferPointer(
                            rebasing: slots[begins[group.rank]..<begins[group.rank + 1]]).mutableBytes
                        try scatter.file.read(
                            scatter.fragment, at: scatter.byteRange(of: piece.chunks).lowerBound, into: &own)
                        readCount += piece.byteCount
                    }
                    try group.allGather(slots, counts: counts)
                    for (rank, piece) in round.enumerated() {
                        guard let piece else { continue }
                        try scatters[piece.read].handOut(
                            UnsafeRawBufferPointer(rebasing: slots[begins[rank]..<begins[rank + 1]]), chunks: piece.chunks)
                    }
                }
            }
            return readCount
        } catch {
            let failure = error as? CairnError
                ?? CairnError(.inputOutput, "the rank could not read its part", cause: error)
            group.fail(failure)
            throw failure
        }
    }

    /// Which rank reads which piece in which round: the same on every rank, since it follows from what all know.
    private func deal(_ reads: [SharedRead], _ scatters: [FragmentScatter], ranks: Int) -> [[SharedPiece?]] {
        let byteLimit = min(readBlockByteCount, Self.roundByteCount / ranks)
        var queues = [[SharedPiece]](repeating: [], count: ranks)
        var loads = [Int](repeating: 0, count: ranks)
        for (index, read) in reads.enumerated() {
            let scatter = scatters[index]
            let chunkByteCount = scatter.file.metadata.chunkByteCount
            let takers = read.wanted.indices.filter { !read.wanted[$0].isEmpty }
            let chunks = NeededChunks(
                of: read.wanted.flatMap { $0 }, in: scatter.fragment.region, scatter.fragment.scalarType,
                chunkByteCount: chunkByteCount
            ).chunks
            for run in Self.cut(chunks, of: scatter.fragment, scatter.file, byteLimit: byteLimit) {
                let byteCount = scatter.byteRange(of: run).count
                let reader = takers.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
                queues[reader].append(SharedPiece(read: index, chunks: run, byteCount: byteCount))
                loads[reader] += byteCount
            }
        }
        return (0..<(queues.map(\.count).max() ?? 0)).map { round in
            queues.map { round < $0.count ? $0[round] : nil }
        }
    }
}
