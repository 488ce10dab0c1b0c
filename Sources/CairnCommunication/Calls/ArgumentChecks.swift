package import CairnBase

/// The checks that a call of a ``Communicator`` makes of its own arguments, before any other rank hears of it.
package enum ArgumentChecks {
    /// The largest tag that every implementation of MPI allows.
    package static let largestTag = 32_767

    /// Where each rank's slice of `count` elements begins, and the end of the last.
    package static func offsets(counts: [Int], size: Int, count: Int) throws(CairnError) -> [Int] {
        guard counts.count == size else {
            throw CairnError(
                .invalidArgument, "a count for each rank is needed",
                CairnError.Context(expected: "\(size) counts", found: "\(counts.count)"))
        }
        var offsets = [0]
        offsets.reserveCapacity(size + 1)
        var end = 0
        for count in counts {
            guard count >= 0, let next = end.adding(checked: count) else {
                throw CairnError(.invalidArgument, "the counts \(counts) are not sizes of slices")
            }
            end = next
            offsets.append(end)
        }
        guard end == count else {
            throw CairnError(
                .invalidArgument, "the counts do not add up to the size of the buffer",
                CairnError.Context(expected: "\(count)", found: "\(end)"))
        }
        return offsets
    }

    package static func checkRank(_ rank: Int, size: Int) throws(CairnError) {
        guard rank >= 0, rank < size else {
            throw CairnError(
                .invalidArgument, "there is no rank \(rank) in the group", CairnError.Context(expected: "0..<\(size)"))
        }
    }

    package static func checkTag(_ tag: Int) throws(CairnError) {
        guard tag >= 0, tag <= largestTag else {
            throw CairnError(
                .invalidArgument, "\(tag) is not a tag", CairnError.Context(expected: "0...\(largestTag)"))
        }
    }

    package static func checkColor(_ color: Int) throws(CairnError) {
        guard color >= 0, color <= Int(Int32.max) else {
            throw CairnError(
                .invalidArgument, "\(color) is not a color", CairnError.Context(expected: "0...\(Int32.max)"))
        }
    }

    package static func checkMessage(_ message: [UInt8]?) throws(CairnError) -> [UInt8] {
        guard let message else { throw CairnError(.invalidArgument, "the root of a broadcast has to pass a message") }
        return message
    }
}
