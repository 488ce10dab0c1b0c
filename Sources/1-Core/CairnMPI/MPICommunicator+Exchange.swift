import CMPICalls
import CairnBase
import CairnCommunication
import Synchronization

extension MPICommunicator {
    /// Bytes that go to a rank of the group or come from it.
    struct Part {
        var base: UnsafeMutableRawPointer?
        var count: Int
        var rank: Int
    }

    /// Sends and receives all parts at once.
    func exchange(sends: [Part], receives: [Part]) throws(CairnError) {
        func parts(_ parts: [Part]) -> [cairn_mpi_part] {
            parts.filter { $0.count > 0 }.map {
                cairn_mpi_part(base: $0.base, count: Int64($0.count), rank: Int32($0.rank))
            }
        }
        let (outgoing, incoming) = (parts(sends), parts(receives))
        try make("an exchange over MPI") {
            cairn_mpi_exchange(
                calls, outgoing, Int32(outgoing.count), incoming, Int32(incoming.count), Int64(limits.pieceByteCount))
        }
    }

    /// Sums block by block, each dealt to all ranks, so that the terms of a block are all that has to be kept.
    func allReduceSum(_ bytes: UnsafeMutableRawBufferPointer, of element: CommunicatorElement) throws(CairnError) {
        guard size > 1 else { return }
        let count = bytes.count / element.byteCount
        let blockCount = max(1, limits.termByteCount / element.byteCount)
        var begin = 0
        while begin < count {
            let end = min(count, begin + blockCount)
            let slices = (0..<size).map { rank in
                let slice = RankOrderSum.slice(ofRank: rank, size: size, count: end - begin)
                return begin + slice.lowerBound..<begin + slice.upperBound
            }
            try reduceScatterSum(bytes, slices: slices, of: element)
            try allGather(
                bytes,
                slices: slices.map { $0.lowerBound * element.byteCount..<$0.upperBound * element.byteCount })
            begin = end
        }
    }

    /// Sums the slice of this rank from what all ranks have there; slices count elements.
    func reduceScatterSum(
        _ bytes: UnsafeMutableRawBufferPointer, slices: [Range<Int>], of element: CommunicatorElement
    ) throws(CairnError) {
        guard size > 1, let base = bytes.baseAddress else { return }
        let longest = slices.map(\.count).max() ?? 0
        let roundCount = min(longest, max(1, limits.termByteCount / element.byteCount / size))
        let terms = UnsafeMutableRawPointer.allocate(
            byteCount: max(1, min(roundCount, slices[rank].count) * size * element.byteCount), alignment: 64)
        defer { terms.deallocate() }
        let others = slices.indices.filter { $0 != rank }
        var done = 0
        while done < longest {
            let rounds = slices.map { slice in
                let begin = min(slice.upperBound, slice.lowerBound + done)
                return begin..<min(slice.upperBound, begin + roundCount)
            }
            let own = rounds[rank]
            let byteCount = own.count * element.byteCount
            let target = base + own.lowerBound * element.byteCount
            try exchange(
                sends: others.map {
                    Part(
                        base: base + rounds[$0].lowerBound * element.byteCount,
                        count: rounds[$0].count * element.byteCount, rank: $0)
                },
                receives: others.map { Part(base: terms + $0 * byteCount, count: byteCount, rank: $0) })
            RankOrderSum.sum(
                slices.indices.map { UnsafeRawPointer($0 == rank ? target : terms + $0 * byteCount) }, into: [target],
                count: own.count, of: element)
            done += roundCount
        }
    }

    /// Sends this rank's slice to all others and receives theirs; slices count bytes.
    func allGather(_ bytes: UnsafeMutableRawBufferPointer, slices: [Range<Int>]) throws(CairnError) {
        guard size > 1, let base = bytes.baseAddress else { return }
        let others = slices.indices.filter { $0 != rank }
        try exchange(
            sends: others.map { Part(base: base + slices[rank].lowerBound, count: slices[rank].count, rank: $0) },
            receives: others.map { Part(base: base + slices[$0].lowerBound, count: slices[$0].count, rank: $0) })
    }
}

/// The messages of this process that are on their way, each with the copy of its bytes that MPI reads.
final class PendingSends: Sendable {
    /// `@unchecked Sendable`: only the thread that took it out of the list, or holds the list's lock, touches the memory.
    private struct Send: @unchecked Sendable {
        let request: UnsafeMutableRawPointer
        let bytes: UnsafeMutableRawPointer
    }

    private let sends = Mutex<[Send]>([])

    /// Begins to send a copy of `piece`, and releases what has arrived.
    func start(_ piece: UnsafeRawBufferPointer, communicator: Int32, to rank: Int, tag: Int, from ownRank: Int)
        throws(CairnError)
    {
        _ = try collect(rank: ownRank)
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(1, piece.count), alignment: 64)
        if let base = piece.baseAddress { bytes.copyMemory(from: base, byteCount: piece.count) }
        var request: UnsafeMutableRawPointer?
        do throws(CairnError) {
            try MPILibrary.check("MPI_Isend", rank: ownRank) {
                cairn_mpi_send_start(communicator, bytes, Int32(piece.count), Int32(rank), Int32(tag), &request)
            }
        } catch {
            bytes.deallocate()
            throw error
        }
        guard let request else { return bytes.deallocate() }
        let send = Send(request: request, bytes: bytes)
        sends.withLock { $0.append(send) }
    }

    /// Releases what has arrived; how many messages are still on their way.
    func collect(rank: Int) throws(CairnError) -> Int {
        try sends.withLock { (sends) throws(CairnError) in
            var open: [Send] = []
            for send in sends {
                var isDone: Int32 = 0
                try MPILibrary.check("MPI_Test", rank: rank) { cairn_mpi_send_test(send.request, &isDone) }
                if isDone != 0 { send.bytes.deallocate() } else { open.append(send) }
            }
            sends = open
            return open.count
        }
    }
}
