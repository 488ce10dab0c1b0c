import CMPICalls
import CairnBase
import CairnCommunication

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
