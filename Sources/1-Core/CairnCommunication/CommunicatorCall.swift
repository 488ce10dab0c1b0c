package import CairnBase

/// One call of a ``Communicator``, as far as all ranks must agree about it.
package struct CommunicatorCall: Sendable, Hashable, CustomStringConvertible {
    /// The calls. The raw values travel between ranks.
    package enum Kind: Int, Sendable {
        case barrier = 1, broadcast, allReduceSum, reduceScatterSum, allGather, gather, broadcastMessage, split
        case receive
        /// A call with arguments that make no sense, of which the other ranks are told.
        case mistake
    }

    package var kind: Kind
    package var element: CommunicatorElement
    /// The root, or the rank received from; in the numbers of the whole job.
    package var root: Int
    /// Elements in all.
    package var count: Int
    /// A digest of how the elements are dealt to the ranks, or the tag of a message.
    package var detail: Int

    package init(
        _ kind: Kind, element: CommunicatorElement = .byte, root: Int = -1, count: Int = 0, detail: Int = 0
    ) {
        self.kind = kind
        self.element = element
        self.root = root
        self.count = count
        self.detail = detail
    }

    package var description: String {
        switch kind {
        case .barrier: "barrier"
        case .broadcast: "broadcast of \(count) bytes from rank \(root)"
        case .allReduceSum: "allReduceSum of \(count) \(element) values"
        case .reduceScatterSum: "reduceScatterSum of \(count) \(element) values"
        case .allGather: "allGather of \(count) bytes"
        case .gather: "gather at rank \(root)"
        case .broadcastMessage: "broadcast of a message from rank \(root)"
        case .split: "split"
        case .mistake: "something with wrong arguments"
        case .receive: "receive of \(count) bytes from rank \(root) with tag \(detail)"
        }
    }

    /// What is wrong when rank `rank` makes this call and rank `otherRank` makes `other`.
    package func mismatch(rank: Int, other: CommunicatorCall, otherRank: Int) -> String {
        var message = "rank \(otherRank) calls \(other) while rank \(rank) calls \(self)"
        if description == other.description { message += ", dealt to the ranks in other counts" }
        return message
    }

    /// A digest of counts, which is compared and never inverted.
    package static func digest(of counts: [Int]) -> Int {
        var hash = Hash64()
        for count in counts { hash.combine(UInt64(bitPattern: Int64(count))) }
        return Int(truncatingIfNeeded: hash.value >> 1)
    }
}

/// What a buffer of a call holds.
package enum CommunicatorElement: Int, Sendable, CustomStringConvertible {
    case byte, float, double

    package var byteCount: Int {
        switch self {
        case .byte: 1
        case .float: MemoryLayout<Float>.size
        case .double: MemoryLayout<Double>.size
        }
    }

    package var description: String {
        switch self {
        case .byte: "byte"
        case .float: "Float"
        case .double: "Double"
        }
    }
}

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
