public import CairnBase

/// Ranks that are threads of one process and share its memory.
///
/// Each rank sums its slice straight from the buffers of the others and writes it into all of them, so an all-reduce
/// copies nothing through a third place. Start the ranks with ``run(ranks:body:)``.
public final class ThreadCommunicator: Communicator {
    public let rank: Int
    public var size: Int { group.members.count }
    private let group: ThreadGroup

    init(group: ThreadGroup, rank: Int) {
        self.group = group
        self.rank = rank
    }

    public func barrier() throws(CairnError) {
        try group.collective(CommunicatorCall(.barrier), rank: rank, slot: ThreadGroup.Slot()) { _ in }
    }

    public func broadcast(_ buffer: UnsafeMutableRawBufferPointer, from root: Int) throws(CairnError) {
        try checked { () throws(CairnError) in try ArgumentChecks.checkRank(root, size: size) }
        let call = CommunicatorCall(.broadcast, root: group.members[root], count: buffer.count)
        try group.collective(call, rank: rank, slot: ThreadGroup.Slot(base: buffer.baseAddress)) { slots in
            guard rank != root, let source = slots[root].base, let target = buffer.baseAddress else { return }
            target.copyMemory(from: source, byteCount: buffer.count)
        }
    }

    public func allReduceSum(_ values: UnsafeMutableBufferPointer<Float>) throws(CairnError) {
        try allReduceSum(values.baseAddress, count: values.count, of: .float)
    }

    public func allReduceSum(_ values: UnsafeMutableBufferPointer<Double>) throws(CairnError) {
        try allReduceSum(values.baseAddress, count: values.count, of: .double)
    }

    private func allReduceSum(
        _ base: UnsafeMutableRawPointer?, count: Int, of element: CommunicatorElement
    ) throws(CairnError) {
        let call = CommunicatorCall(.allReduceSum, element: element, count: count)
        try group.collective(call, rank: rank, slot: ThreadGroup.Slot(base: base)) { slots in
            let slice = RankOrderSum.slice(ofRank: rank, size: size, count: count)
            let parts = slots.compactMap { $0.base.map { $0 + slice.lowerBound * element.byteCount } }
            guard !slice.isEmpty, parts.count == size else { return }
            RankOrderSum.sum(parts.map { UnsafeRawPointer($0) }, into: parts, count: slice.count, of: element)
        }
    }

    public func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Float>, counts: [Int]) throws(CairnError) {
        try reduceScatterSum(values.baseAddress, count: values.count, counts: counts, of: .float)
    }

    public func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Double>, counts: [Int]) throws(CairnError) {
        try reduceScatterSum(values.baseAddress, count: values.count, counts: counts, of: .double)
    }

    private func reduceScatterSum(
        _ base: UnsafeMutableRawPointer?, count: Int, counts: [Int], of element: CommunicatorElement
    ) throws(CairnError) {
        let offsets = try checked { () throws(CairnError) in
            try ArgumentChecks.offsets(counts: counts, size: size, count: count)
        }
        let call = CommunicatorCall(
            .reduceScatterSum, element: element, count: count, detail: CommunicatorCall.digest(of: counts))
        try group.collective(call, rank: rank, slot: ThreadGroup.Slot(base: base)) { slots in
            let parts = slots.compactMap { $0.base.map { UnsafeRawPointer($0 + offsets[rank] * element.byteCount) } }
            guard counts[rank] > 0, let base, parts.count == size else { return }
            let target = base + offsets[rank] * element.byteCount
            RankOrderSum.sum(parts, into: [target], count: counts[rank], of: element)
        }
    }

    public func allGather(_ buffer: UnsafeMutableRawBufferPointer, counts: [Int]) throws(CairnError) {
        let offsets = try checked { () throws(CairnError) in
            try ArgumentChecks.offsets(counts: counts, size: size, count: buffer.count)
        }
        let call = CommunicatorCall(.allGather, count: buffer.count, detail: CommunicatorCall.digest(of: counts))
        try group.collective(call, rank: rank, slot: ThreadGroup.Slot(base: buffer.baseAddress)) { slots in
            guard let target = buffer.baseAddress else { return }
            for other in slots.indices where other != rank {
                guard let source = slots[other].base else { continue }
                (target + offsets[other]).copyMemory(from: source + offsets[other], byteCount: counts[other])
            }
        }
    }

    public func gather(_ message: [UInt8], at root: Int) throws(CairnError) -> [[UInt8]]? {
        try checked { () throws(CairnError) in try ArgumentChecks.checkRank(root, size: size) }
        let call = CommunicatorCall(.gather, root: group.members[root])
        return try group.collective(call, rank: rank, slot: ThreadGroup.Slot(message: message)) { slots in
            rank == root ? slots.map(\.message) : nil
        }
    }

    public func broadcast(message: [UInt8]?, from root: Int) throws(CairnError) -> [UInt8] {
        let own = try checked { () throws(CairnError) in
            try ArgumentChecks.checkRank(root, size: size)
            return rank == root ? try ArgumentChecks.checkMessage(message) : []
        }
        let call = CommunicatorCall(.broadcastMessage, root: group.members[root])
        return try group.collective(call, rank: rank, slot: ThreadGroup.Slot(message: own)) { $0[root].message }
    }

    public func send(_ buffer: UnsafeRawBufferPointer, to rank: Int, tag: Int) throws(CairnError) {
        try ArgumentChecks.checkRank(rank, size: size)
        try ArgumentChecks.checkTag(tag)
        try group.send([UInt8](buffer), from: self.rank, to: rank, tag: tag)
    }

    public func receive(_ buffer: UnsafeMutableRawBufferPointer, from rank: Int, tag: Int) throws(CairnError) {
        try ArgumentChecks.checkRank(rank, size: size)
        try ArgumentChecks.checkTag(tag)
        try group.receive(buffer, from: rank, to: self.rank, tag: tag)
    }

    public func split(color: Int, key: Int) throws(CairnError) -> any Communicator {
        try checked { () throws(CairnError) in try ArgumentChecks.checkColor(color) }
        let slot = ThreadGroup.Slot(color: color, key: key)
        return try group.collective(CommunicatorCall(.split), rank: rank, slot: slot) { slots in
            let ranks = slots.indices.filter { slots[$0].color == color }
                .sorted { (slots[$0].key, $0) < (slots[$1].key, $1) }
            let subgroup = group.subgroup(color: color, members: ranks.map { group.members[$0] })
            return ThreadCommunicator(group: subgroup, rank: ranks.firstIndex(of: rank) ?? 0)
        }
    }

    public func fail(_ error: CairnError) {
        group.world.lock.lock()
        defer { group.world.lock.unlock() }
        group.end(with: RankFailure(rank: group.members[rank], reason: error).error)
    }

    /// Checks arguments of a collective call. The others could wait forever for a rank that throws here, so it fails
    /// the group.
    private func checked<Value>(_ check: () throws(CairnError) -> Value) throws(CairnError) -> Value {
        do {
            return try check()
        } catch {
            fail(error)
            throw error
        }
    }
}

extension ThreadCommunicator {
    /// Runs `body` once for each rank, each on a thread of its own, and returns what they returned, in rank order.
    ///
    /// A rank whose body throws fails the group, so that no other waits for it; when all have ended, the first error
    /// that is not the echo of another rank's is thrown. When every rank waits or has ended, none could continue: then
    /// all groups fail with an error of code `mismatch` that says who waits for what. (Only while each rank makes its
    /// calls from the thread that runs its body.)
    ///
    /// The caller waits. Call it from a thread that may block, not from a task on Swift's cooperative pool.
    ///
    /// - Parameter ranks: How many, at least one.
    @discardableResult
    public static func run<Value: Sendable>(
        ranks: Int, body: @escaping @Sendable (any Communicator) throws -> Value
    ) throws -> [Value] {
        guard ranks > 0 else { throw CairnError(.invalidArgument, "a group has at least one rank, not \(ranks)") }
        let world = ThreadWorld(size: ranks)
        let group = ThreadGroup(world: world, members: Array(0..<ranks))
        world.root = group
        let outcomes = RankOutcomes<Value>(count: ranks)
        for rank in 0..<ranks {
            let communicator = ThreadCommunicator(group: group, rank: rank)
            let isRunning = startThreadIfPossible {
                world.lock.lock()
                world.begin(rank: rank)
                world.lock.unlock()
                let outcome = Result { try body(communicator) }
                if case .failure(let error) = outcome { communicator.fail(CairnError(reasonOf: error)) }
                world.lock.lock()
                world.end(rank: rank)
                world.lock.unlock()
                outcomes.add(outcome, ofRank: rank)
            }
            if !isRunning {
                let error = CairnError(
                    .unsupported, "the system starts no more threads", CairnError.Context(advice: "use fewer ranks"))
                communicator.fail(error)
                outcomes.add(.failure(error), ofRank: rank)
            }
        }
        return try outcomes.wait()
    }
}

extension CairnError {
    /// `error`, or what stands for it where only a ``CairnError`` can be passed on.
    package init(reasonOf error: any Error) {
        self = error as? CairnError ?? CairnError(.cancelled, "stopped by an error: \(error)")
    }
}

/// What each rank's body came to.
///
/// `@unchecked Sendable`: every mutable property is guarded by `lock`.
private final class RankOutcomes<Value: Sendable>: @unchecked Sendable {
    private let lock = WaitLock()
    private let complete = WaitCondition()
    private var values: [Value?]
    private var missing: Int
    private var firstError: (any Error)?
    private var firstEcho: (any Error)?

    init(count: Int) {
        values = Array(repeating: nil, count: count)
        missing = count
    }

    func add(_ outcome: Result<Value, any Error>, ofRank rank: Int) {
        lock.lock()
        defer { lock.unlock() }
        switch outcome {
        case .success(let value): values[rank] = value
        case .failure(let error):
            if (error as? CairnError)?.cause is RankFailure {
                firstEcho = firstEcho ?? error
            } else {
                firstError = firstError ?? error
            }
        }
        missing -= 1
        if missing == 0 { complete.wakeAll() }
    }

    func wait() throws -> [Value] {
        lock.lock()
        defer { lock.unlock() }
        while missing > 0 { complete.wait(lock) }
        if let error = firstError ?? firstEcho { throw error }
        return values.compactMap { $0 }
    }
}
