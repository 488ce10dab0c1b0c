public import CairnBase
public import CairnCheckpoint
import CairnCommunication
public import CairnTensor
import Synchronization

/// Takes snapshots of a training state and makes them durable checkpoints while training continues.
///
/// Taking one costs microseconds: the state is a value, so the snapshot keeps references to its tensors and moves no bytes.
/// Threads of the pipeline then sum, write, make durable and commit, and release each tensor as soon as it is written. An
/// update of a tensor that is still held goes out of place, into memory of a ``BufferPool``; one that has been drained is
/// updated in place again. So training pays only where it catches up with the writer, as lazy copies do in DataStates-LLM
/// (Maurya et al., HPDC 2024), without copying first.
///
/// ```swift
/// let pool = BufferPool(idleLimit: 4 << 30)
/// let pipeline = SnapshotPipeline(CheckpointStore(path: "runs/kjv"), pool: pool)
/// for step in 1...1000 {
///     try trainStep(&state, pool)                      // updates with `rewrite(as:pool:_:)`
///     if step % 50 == 0 { pipeline.snapshot(state, step: step) }
///     for report in pipeline.takeReports() { print(report.step, report.outcome) }
/// }
/// try pipeline.finish()
/// ```
///
/// Errors of the background never reach training but as values: ``SnapshotOutcome``, ``failure``. Older checkpoints stay as they
/// are. A pipeline that is released continues until what it has taken is committed; a process that exits before loses that, so
/// call `finish()`, which also throws when the newest snapshot did not become a checkpoint.
public final class SnapshotPipeline: Sendable {
    /// Where the checkpoints go.
    public let store: CheckpointStore
    /// How snapshots are taken and drained.
    public let options: SnapshotOptions
    private let pool: BufferPool?
    private let sharded: ShardedStore?
    private let background: SnapshotDrain
    private let writes = Mutex<RankWrites?>(nil)

    /// A pipeline of a state that this process has whole.
    ///
    /// - Parameter pool: Where updates of tensors that are still held take their memory: the budget holds for it. Without one,
    ///   memory is not bounded.
    public convenience init(
        _ store: CheckpointStore, pool: BufferPool? = nil, options: SnapshotOptions = SnapshotOptions()
    ) {
        self.init(store, nil, SoleCommit(), pool, options)
    }

    /// This rank's pipeline of a state that lies on several ranks. Every rank makes one, and all of them take the same
    /// snapshots in the same order; none waits for another, neither in taking nor in draining.
    public convenience init(
        _ sharded: ShardedStore, pool: BufferPool? = nil, options: SnapshotOptions = SnapshotOptions()
    ) {
        let communicator = sharded.communicator
        let commit: any SnapshotCommit =
            communicator.size == 1
            ? SoleCommit()
            : SharedCommit(
                store: sharded.store, rank: communicator.rank, rankCount: communicator.size,
                timeout: options.commitTimeout)
        self.init(sharded.store, sharded, commit, pool, options)
    }

    private init(
        _ store: CheckpointStore, _ sharded: ShardedStore?, _ commit: any SnapshotCommit, _ pool: BufferPool?,
        _ options: SnapshotOptions
    ) {
        self.store = store
        self.options = options
        self.pool = pool
        self.sharded = sharded
        let background = SnapshotDrain(store, options, commit, budget: pool?.copies)
        self.background = background
        if let pool {
            let (limit, patience, isGivenUp) = Self.budget(options)
            let giveUp: @Sendable () -> Void = { [weak background] in background?.giveUpOldest() }
            pool.copies.setLimit(limit, patience: patience, giveUp: isGivenUp ? giveUp : nil)
        }
        background.start()
    }

    deinit { background.close() }

    /// What a pool's budget is told: its limit, how long updates wait, and whether snapshots are given up then.
    static func budget(_ options: SnapshotOptions) -> (Int, Duration, Bool) {
        switch options.backPressure {
        case .grow: (.max, .zero, false)
        case .skip: (max(0, options.byteBudget), .zero, true)
        case .wait(let patience): (max(0, options.byteBudget), patience, false)
        }
    }

    /// Takes a snapshot of a state. Returns at once, unless back-pressure makes it wait for a free slot.
    ///
    /// The tensors are shared until they are drained: pass the state on rather than keeping it, because what the caller
    /// keeps is shared for as long.
    ///
    /// - Parameters:
    ///   - foreign: Tensors in memory that is not copy-on-write, by name.
    ///   - options: As for a blocking save. ``SaveOptions/concurrency`` has no effect here.
    ///   - order: Names in the order in which training will update the tensors. They are drained in that order, so that
    ///     updates find them free.
    @discardableResult
    public func snapshot(
        _ state: consuming TrainingState, foreign: [(name: String, array: ForeignArray)] = [], step: Int,
        options: SaveOptions = SaveOptions(), order: [String] = []
    ) -> Snapshot {
        let state = consume state
        return take(step, options, order) {
            guard sharded == nil || sharded?.communicator.size == 1 else {
                throw CairnError(.invalidArgument, "this pipeline is of a state that lies on several ranks")
            }
            var holds: [(name: String, hold: ForeignHold)] = []
            do throws(CairnError) {
                for (name, array) in foreign { holds.append((name, try array.hold())) }
            } catch {
                for (_, hold) in holds { hold.end() }
                throw error
            }
            var content = SaveContent(state)
            content.fragments += holds.map { HeldFragment($0.hold, name: $0.name) }
            return content
        }
    }

    /// Takes this rank's part of a snapshot of a state that lies on several ranks. The ranks agree when they commit, in the
    /// background; a rank that fails, or whose snapshot is skipped or cancelled, means that nothing is committed, and every
    /// rank's outcome says which it was.
    @discardableResult
    public func snapshot(
        _ state: consuming ShardedState, step: Int, options: SaveOptions = SaveOptions(), order: [String] = []
    ) -> Snapshot {
        let state = consume state
        return take(step, options, order) {
            let communicator = sharded?.communicator
            guard state.rank == communicator?.rank ?? 0, state.rankCount == communicator?.size ?? 1 else {
                throw CairnError(
                    .mismatch, "the state belongs to another rank",
                    .init(
                        expected: "rank \(communicator?.rank ?? 0) of \(communicator?.size ?? 1)",
                        found: "rank \(state.rank) of \(state.rankCount)"))
            }
            return try SaveContent(state, rankWrites(of: state))
        }
    }

    private func take(
        _ step: Int, _ options: SaveOptions, _ order: [String], _ retain: () throws -> SaveContent
    ) -> Snapshot {
        let start = ContinuousClock.now
        var options = options
        options.time = options.time ?? currentTime()
        let id = sharded?.nextSaveID()
        let snapshot = Snapshot(step: step, saveID: options.saveID ?? id ?? SaveID())
        var timeline = SnapshotTimeline()
        timeline.step = step
        timeline.rank = sharded?.communicator.rank ?? 0
        timeline.saveID = snapshot.saveID
        timeline.began = options.time ?? 0
        let refusal = background.awaitSlot()
        let ready = ContinuousClock.now
        timeline.wait = (ready - start) / .seconds(1)
        if let refusal {
            background.refuse(
                snapshot, .skipped(refusal), timeline, CairnError(.cancelled, "the rank skipped the snapshot: \(refusal)"))
            return snapshot
        }
        do {
            let content = try retain()
            timeline.byteCount = content.byteCount
            snapshot.noteTotal(content.byteCount)
            timeline.retain = .init(since: ready)
            background.take(
                SnapshotJob(
                    snapshot, content, options, order: order, taken: start, timeline: timeline, budget: pool?.copies))
        } catch {
            let failure = CairnError(wrapping: error, "the snapshot could not be taken")
            background.refuse(snapshot, .failed(failure), timeline, failure)
        }
        return snapshot
    }

    private func rankWrites(of state: ShardedState) throws(CairnError) -> RankWrites {
        if let known = writes.withLock({ $0 }), known.isOf(state) { return known }
        let new = try RankWrites(state)
        writes.withLock { $0 = new }
        return new
    }

    /// Blocks until every snapshot has ended, or until `duration` has passed.
    ///
    /// - Returns: Whether all have ended.
    @discardableResult
    public func drain(upTo duration: Duration? = nil) -> Bool { background.waitUntilIdle(upTo: duration) }

    /// Blocks until every snapshot has ended: what to call at the end of training.
    ///
    /// - Throws: What kept the newest snapshot from becoming a checkpoint, if something did: the run's last state is not saved.
    ///   An older one that failed is in ``takeReports()`` alone. One that was cancelled is not a failure.
    public func finish() throws {
        _ = background.waitUntilIdle(upTo: nil)
        if let failure { throw failure }
    }

    /// The same without blocking the calling task's thread.
    public func finish() async throws {
        try await runOnThread { try self.finish() }
    }

    /// Why the newest snapshot that has ended is not a checkpoint; `nil` when it is one, was cancelled, or none has ended. A
    /// storage that fails for good shows here while training continues.
    public var failure: CairnError? { background.failure }

    /// The snapshots that have ended since the last call, in the order in which they were taken. The report of one that has ended
    /// before an older one is held back until that has ended too.
    public func takeReports() -> [SnapshotReport] { background.takeReports() }

    /// Gives up the oldest snapshot that still holds tensors.
    func giveUpOldest() { background.giveUpOldest() }

    /// Gives up every snapshot that has not been drained.
    public func cancelAll() { background.cancelAll() }
}

/// How a pipeline takes and drains snapshots.
public struct SnapshotOptions: Sendable {
    /// What happens when snapshots come faster than the storage takes them.
    public enum BackPressure: Sendable, Hashable {
        /// Training waits: a new snapshot for a free slot in the pipeline, an update for memory. After so long a new snapshot is
        /// skipped, and an update continues beyond the budget.
        case wait(upTo: Duration)
        /// Training never waits: a new snapshot that finds no free slot is skipped, and an update that finds no memory cancels
        /// the oldest snapshot. Both are reported.
        case skip
        /// Training never waits and nothing is skipped: memory grows.
        case grow
    }

    /// The most bytes that tensors of snapshots may take beside those of training. A tensor takes some only if it is updated
    /// before it has been drained. Needs the pool that the updates take their memory from.
    public var byteBudget = Int.max
    /// What happens when the budget is used up, or ``maximumInFlight`` reached.
    public var backPressure = BackPressure.wait(upTo: .seconds(300))
    /// How many snapshots may be taken and not yet drained or given up.
    public var maximumInFlight = 2
    /// How many threads sum, compress and write; `nil` for two to four, by the number of processors. They sleep most of the
    /// time when the storage is written past the page cache.
    public var writerCount: Int?
    /// What is kept after each commit; `nil` keeps everything.
    public var retention: RetentionPolicy?
    /// How long a commit waits for the files of other ranks.
    public var commitTimeout = Duration.seconds(600)
    /// Told of every snapshot that has ended, on a thread of the pipeline.
    public var observer: (any SnapshotObserver)?

    /// Options with these differences from the usual ones; whatever else is set afterwards.
    public init(
        byteBudget: Int = .max, backPressure: BackPressure = .wait(upTo: .seconds(300)), maximumInFlight: Int = 2,
        retention: RetentionPolicy? = nil
    ) {
        self.byteBudget = byteBudget
        self.backPressure = backPressure
        self.maximumInFlight = maximumInFlight
        self.retention = retention
    }
}

/// Is told of snapshots that have ended.
public protocol SnapshotObserver: Sendable {
    /// Called once for each snapshot, whatever became of it, on a thread of the pipeline.
    func snapshotEnded(_ report: SnapshotReport)
}
