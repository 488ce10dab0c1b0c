import CMPICalls
public import CairnBase
public import CairnCommunication
import Synchronization

/// Ranks that are processes of an MPI job. Start with ``run(_:)``.
///
/// Sums have the bits that threads would give: the terms of a slice go to the rank that owns it, which adds them in
/// rank order and sends the sum back. MPI's own reductions may add in any order.
///
/// Before each collective call the ranks tell each other what they are about to call (one small all-gather), so that
/// different calls are an error on every rank instead of a job that hangs. A failed rank ends the job: see
/// ``fail(_:)``.
///
/// MPI makes no promise to a process that lost a peer, so a job that is killed in part ends as a whole.
public final class MPICommunicator: Communicator {
    public let rank: Int
    public var size: Int { members.count }

    /// The ranks of the whole job that make the group, in its order.
    let members: [Int]
    /// MPI's communicator for collective calls, and the one for messages: apart, so that they never meet.
    let calls: Int32
    let mail: Int32
    let pending: PendingSends
    let limits: MPILimits
    private let failure = Mutex<CairnError?>(nil)

    init(calls: Int32, mail: Int32, rank: Int, members: [Int], pending: PendingSends, limits: MPILimits) {
        self.calls = calls
        self.mail = mail
        self.rank = rank
        self.members = members
        self.pending = pending
        self.limits = limits
    }

    /// The rank in the whole job.
    var jobRank: Int { members[rank] }

    // MARK: Agreement

    /// Tells the others what this rank calls, and learns what they call and the two words that each adds.
    @discardableResult
    func agree(on call: CommunicatorCall, words: (Int, Int) = (0, 0)) throws(CairnError) -> [(Int, Int)] {
        if let failure = failure.withLock({ $0 }) { throw failure }
        let width = 7
        let own = [
            call.kind.rawValue, call.element.rawValue, call.root, call.count, call.detail, words.0, words.1,
        ].map { Int64($0) }
        var all = [Int64](repeating: 0, count: width * size)
        try make("MPI_Allgather") {
            cairn_mpi_all_gather_words(calls, own, &all, Int32(width))
        }
        // The same comparison on every rank, so that every rank throws the same.
        for other in 1..<max(1, size) where all[other * width..<other * width + 5] != all[0..<5] {
            let message = Self.call(all[other * width..<other * width + 5])
                .mismatch(rank: members[other], other: Self.call(all[0..<5]), otherRank: members[0])
            throw ended(.mismatchedCalls(message))
        }
        return (0..<size).map { (Int(all[$0 * width + 5]), Int(all[$0 * width + 6])) }
    }

    private static func call(_ words: ArraySlice<Int64>) -> CommunicatorCall {
        let words = words.map { Int($0) }
        return CommunicatorCall(
            CommunicatorCall.Kind(rawValue: words[0]) ?? .mistake,
            element: CommunicatorElement(rawValue: words[1]) ?? .byte, root: words[2], count: words[3],
            detail: words[4])
    }

    /// Ends the group on this rank; the error that every later call throws.
    func ended(_ error: CairnError) -> CairnError {
        failure.withLock { failure in
            if failure == nil { failure = error }
            return failure ?? error
        }
    }

    /// Makes a call of MPI. An error of it ends the group on this rank: what MPI does after one is not defined.
    func make(_ name: String, _ call: () -> Int32) throws(CairnError) {
        do {
            try MPILibrary.check(name, rank: jobRank, call)
        } catch {
            throw ended(error)
        }
    }

    /// Checks arguments of a collective call. The other ranks wait in the call, so they are told.
    private func checked<Value>(_ check: () throws(CairnError) -> Value) throws(CairnError) -> Value {
        do {
            return try check()
        } catch {
            _ = try? agree(on: CommunicatorCall(.mistake))
            _ = ended(error)
            throw error
        }
    }

    // MARK: Collective calls

    public func barrier() throws(CairnError) {
        // No rank learns what all call before all call it.
        try agree(on: CommunicatorCall(.barrier))
    }

    public func broadcast(_ buffer: UnsafeMutableRawBufferPointer, from root: Int) throws(CairnError) {
        try checked { () throws(CairnError) in try ArgumentChecks.checkRank(root, size: size) }
        try agree(on: CommunicatorCall(.broadcast, root: members[root], count: buffer.count))
        try broadcastBytes(buffer, from: root)
    }

    private func broadcastBytes(_ buffer: UnsafeMutableRawBufferPointer, from root: Int) throws(CairnError) {
        try make("MPI_Bcast") {
            cairn_mpi_broadcast(
                calls, buffer.baseAddress, Int64(buffer.count), Int64(limits.pieceByteCount), Int32(root))
        }
    }

    public func allReduceSum(_ values: UnsafeMutableBufferPointer<Float>) throws(CairnError) {
        try agree(on: CommunicatorCall(.allReduceSum, element: .float, count: values.count))
        try allReduceSum(UnsafeMutableRawBufferPointer(values), of: .float)
    }

    public func allReduceSum(_ values: UnsafeMutableBufferPointer<Double>) throws(CairnError) {
        try agree(on: CommunicatorCall(.allReduceSum, element: .double, count: values.count))
        try allReduceSum(UnsafeMutableRawBufferPointer(values), of: .double)
    }

    public func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Float>, counts: [Int]) throws(CairnError) {
        try reduceScatterSum(UnsafeMutableRawBufferPointer(values), count: values.count, counts: counts, of: .float)
    }

    public func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Double>, counts: [Int]) throws(CairnError) {
        try reduceScatterSum(UnsafeMutableRawBufferPointer(values), count: values.count, counts: counts, of: .double)
    }

    private func reduceScatterSum(
        _ bytes: UnsafeMutableRawBufferPointer, count: Int, counts: [Int], of element: CommunicatorElement
    ) throws(CairnError) {
        let offsets = try checked { () throws(CairnError) in
            try ArgumentChecks.offsets(counts: counts, size: size, count: count)
        }
        try agree(
            on: CommunicatorCall(
                .reduceScatterSum, element: element, count: count, detail: CommunicatorCall.digest(of: counts)))
        try reduceScatterSum(bytes, slices: (0..<size).map { offsets[$0]..<offsets[$0 + 1] }, of: element)
    }

    public func allGather(_ buffer: UnsafeMutableRawBufferPointer, counts: [Int]) throws(CairnError) {
        let offsets = try checked { () throws(CairnError) in
            try ArgumentChecks.offsets(counts: counts, size: size, count: buffer.count)
        }
        try agree(
            on: CommunicatorCall(.allGather, count: buffer.count, detail: CommunicatorCall.digest(of: counts)))
        try allGather(buffer, slices: (0..<size).map { offsets[$0]..<offsets[$0 + 1] })
    }

    public func gather(_ message: [UInt8], at root: Int) throws(CairnError) -> [[UInt8]]? {
        try checked { () throws(CairnError) in try ArgumentChecks.checkRank(root, size: size) }
        let counts = try agree(on: CommunicatorCall(.gather, root: members[root]), words: (message.count, 0)).map(\.0)
        // One buffer for all: this rank's part is its message, and at the root so is that of each other rank.
        var begin = 0
        var slices: [Range<Int>] = []
        for count in counts {
            slices.append(begin..<begin + count)
            begin += count
        }
        guard rank == root else {
            var own = message
            try own.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
                let part = Part(base: buffer.baseAddress, count: buffer.count, rank: root)
                try exchange(sends: [part], receives: [])
            }
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: begin)
        bytes.replaceSubrange(slices[rank], with: message)
        try bytes.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            let base = UnsafeMutableRawPointer(buffer.baseAddress)
            let receives = slices.indices.filter { $0 != rank }.map {
                Part(base: base.map { [begin = slices[$0].lowerBound] in $0 + begin }, count: counts[$0], rank: $0)
            }
            try exchange(sends: [], receives: receives)
        }
        return slices.map { Array(bytes[$0]) }
    }

    public func broadcast(message: [UInt8]?, from root: Int) throws(CairnError) -> [UInt8] {
        var bytes = try checked { () throws(CairnError) in
            try ArgumentChecks.checkRank(root, size: size)
            return rank == root ? try ArgumentChecks.checkMessage(message) : []
        }
        let call = CommunicatorCall(.broadcastMessage, root: members[root])
        let count = try agree(on: call, words: (bytes.count, 0))[root].0
        if rank != root { bytes = [UInt8](repeating: 0, count: count) }
        try bytes.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try broadcastBytes(UnsafeMutableRawBufferPointer(buffer), from: root)
        }
        return bytes
    }

    /// Divides the group. MPI has room for some thousands of groups and they last as long as the job: divide once.
    public func split(color: Int, key: Int) throws(CairnError) -> any Communicator {
        try split(color: color, key: key, limits: limits)
    }

    /// Divides the group, for one with other limits.
    package func split(color: Int, key: Int, limits: MPILimits) throws(CairnError) -> MPICommunicator {
        try checked { () throws(CairnError) in try ArgumentChecks.checkColor(color) }
        let wishes = try agree(on: CommunicatorCall(.split), words: (color, key))
        let ranks = wishes.indices.filter { wishes[$0].0 == color }
            .sorted { (wishes[$0].1, $0) < (wishes[$1].1, $1) }
        let newRank = ranks.firstIndex(of: rank) ?? 0
        var handles: (Int32, Int32) = (0, 0)
        // The new rank as the key: ours may be wider than MPI's 32 bits.
        try make("MPI_Comm_split") {
            cairn_mpi_split(calls, Int32(color), Int32(newRank), &handles.0)
        }
        try make("MPI_Comm_split") {
            cairn_mpi_split(calls, Int32(color), Int32(newRank), &handles.1)
        }
        return MPICommunicator(
            calls: handles.0, mail: handles.1, rank: newRank, members: ranks.map { members[$0] }, pending: pending,
            limits: limits)
    }

    // MARK: Messages

    public func send(_ buffer: UnsafeRawBufferPointer, to rank: Int, tag: Int) throws(CairnError) {
        try ArgumentChecks.checkRank(rank, size: size)
        try ArgumentChecks.checkTag(tag)
        if let failure = failure.withLock({ $0 }) { throw failure }
        // A piece of the full size announces another, so that lengths are compared whatever they are.
        var begin = 0
        while true {
            let end = min(buffer.count, begin + limits.pieceByteCount)
            let piece = UnsafeRawBufferPointer(rebasing: buffer[begin..<end])
            try pending.start(piece, communicator: mail, to: rank, tag: tag, from: jobRank)
            if piece.count < limits.pieceByteCount { return }
            begin = end
        }
    }

    public func receive(_ buffer: UnsafeMutableRawBufferPointer, from rank: Int, tag: Int) throws(CairnError) {
        try ArgumentChecks.checkRank(rank, size: size)
        try ArgumentChecks.checkTag(tag)
        if let failure = failure.withLock({ $0 }) { throw failure }
        var begin = 0
        while true {
            var message: UnsafeMutableRawPointer?
            var count: Int32 = 0
            try make("MPI_Mprobe") {
                cairn_mpi_receive_probe(mail, Int32(rank), Int32(tag), &message, &count)
            }
            let expected = min(buffer.count - begin, limits.pieceByteCount)
            guard Int(count) == expected else {
                try discard(message, byteCount: count)
                let sent = (Int(count) == limits.pieceByteCount ? "at least " : "") + "\(begin + Int(count))"
                let call = CommunicatorCall(.receive, root: members[rank], count: buffer.count, detail: tag)
                let message = "rank \(members[rank]) sends \(sent) bytes to rank \(jobRank), which calls \(call)"
                throw ended(.mismatchedCalls(message))
            }
            try make("MPI_Mrecv") {
                cairn_mpi_receive_take(message, buffer.baseAddress.map { $0 + begin }, count)
            }
            begin += expected
            if expected < limits.pieceByteCount { return }
        }
    }

    /// Takes a message that fits nowhere, so that MPI keeps nothing of it.
    private func discard(_ message: UnsafeMutableRawPointer?, byteCount: Int32) throws(CairnError) {
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(1, Int(byteCount)), alignment: 64)
        defer { bytes.deallocate() }
        try make("MPI_Mrecv") { cairn_mpi_receive_take(message, bytes, byteCount) }
    }
}
