import CairnBase

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
