/// Sums of buffers of several ranks, element by element, in rank order: `((t0 + t1) + t2) + …`.
package enum RankOrderSum {
    /// Elements that are summed before the next are touched: the running sums stay in the first-level cache.
    private static let blockCount = 2_048

    /// Adds `terms` and writes the sums to each of `destinations`, which may be among the terms.
    ///
    /// There is at least one term; every buffer holds `count` elements.
    package static func sum(
        _ terms: [UnsafeRawPointer], into destinations: [UnsafeMutableRawPointer], count: Int,
        of element: CommunicatorElement
    ) {
        switch element {
        case .float: sum(terms, into: destinations, count: count, as: Float.self)
        case .double: sum(terms, into: destinations, count: count, as: Double.self)
        case .byte: break  // Bytes are moved, never summed.
        }
    }

    private static func sum<Value: BinaryFloatingPoint>(
        _ terms: [UnsafeRawPointer], into destinations: [UnsafeMutableRawPointer], count: Int, as: Value.Type
    ) {
        let stride = MemoryLayout<Value>.stride
        withUnsafeTemporaryAllocation(of: Value.self, capacity: min(count, blockCount)) { sums in
            guard let running = sums.baseAddress else { return }
            var begin = 0
            while begin < count {
                let length = min(blockCount, count - begin)
                for (index, term) in terms.enumerated() {
                    let values = (term + begin * stride).assumingMemoryBound(to: Value.self)
                    if index == 0 {
                        running.update(from: values, count: length)
                    } else {
                        for position in 0..<length { running[position] += values[position] }
                    }
                }
                for destination in destinations {
                    (destination + begin * stride).copyMemory(from: running, byteCount: length * stride)
                }
                begin += length
            }
        }
    }

    /// The elements that `rank` of `size` sums when all ranks share the work on `count`: cut at multiples of 16, so
    /// that no two ranks write to one cache line.
    package static func slice(ofRank rank: Int, size: Int, count: Int) -> Range<Int> {
        let blocks = count / 16 + (count % 16 == 0 ? 0 : 1)
        let (share, rest) = blocks.quotientAndRemainder(dividingBy: size)
        let begin = share * rank + min(rank, rest)
        let end = begin + share + (rank < rest ? 1 : 0)
        return min(count, begin * 16)..<min(count, end * 16)
    }
}
