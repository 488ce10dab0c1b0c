public import CairnBase
public import CairnCheckpoint
public import CairnCommunication
public import CairnTensor
import Synchronization

/// Takes snapshots for several tiers, each with an interval and a retention of its own.
///
/// One call a step serves all tiers that are due. The snapshot is drained once, into the nearest of them; the others get
/// copies of the committed checkpoint in the background, verified chunk by chunk, which hold no tensors. A slow tier gets
/// fewer checkpoints; one that fails is reported, and the others continue.
///
/// ```swift
/// let snapshots = try TieredSnapshots([
///     CheckpointTier("memory", store: CheckpointStore(path: "/dev/shm/kjv"), retention: RetentionPolicy(keepLast: 2)),
///     CheckpointTier("disk", store: CheckpointStore(path: "runs/kjv"), every: 50, retention: RetentionPolicy(keepLast: 5)),
///     CheckpointTier("remote", store: CheckpointStore(path: "/mnt/archive/kjv"), every: 500),
/// ], pool: pool)
/// if let restart = try snapshots.recovery.load() { state = restart.state }
/// for step in (state.step + 1)...end {
///     try trainStep(&state, pool)
///     snapshots.snapshot(state, step: step)
/// }
/// try snapshots.finish()
/// ```
public final class TieredSnapshots: Sendable {
    /// The tiers, the nearest first.
    public let tiers: [CheckpointTier]
    private let pool: BufferPool?
    private let options: SnapshotOptions
    private let coordinator: TierCoordinator
    /// Whether this rank copies from tier to tier.
    private let isReplicating: Bool
    /// One for each tier, of a state that lies on several ranks.
    private let sharded: [ShardedStore]
    /// Made when the first snapshot is drained into the tier.
    private let pipelines: Mutex<[SnapshotPipeline?]>
    private let avoided = Mutex<Set<String>>([])

    /// Tiers of a state that this process has whole.
    ///
    /// - Parameters:
    ///   - tiers: The tiers, the nearest first.
    ///   - pool: Where updates of tensors that are still held take their memory.
    ///   - options: How snapshots are taken and drained; retention is that of the tiers.
    ///   - tierOptions: How checkpoints are copied from tier to tier.
    /// - Throws: ``CairnError/Code/invalidArgument`` for no tiers, two of one name, an interval below 1, or a retention in
    ///   `options`.
    public convenience init(
        _ tiers: [CheckpointTier], pool: BufferPool? = nil, options: SnapshotOptions = SnapshotOptions(),
        tierOptions: TierOptions = TierOptions()
    ) throws(CairnError) {
        try self.init(tiers, [], pool, options, tierOptions)
    }

    /// This rank's tiers of a state that lies on several ranks. All ranks call it together, with the same tiers, and then
    /// take the same snapshots in the same order. Rank 0 copies from tier to tier once a checkpoint is committed, so it must
    /// be able to read what all ranks wrote.
    ///
    /// - Throws: As for one process; what the communicator throws.
    public convenience init(
        _ tiers: [CheckpointTier], over communicator: any Communicator, pool: BufferPool? = nil,
        options: SnapshotOptions = SnapshotOptions(), tierOptions: TierOptions = TierOptions()
    ) throws(CairnError) {
        var sharded: [ShardedStore] = []
        for tier in tiers { sharded.append(try ShardedStore(tier.store, over: communicator)) }
        try self.init(tiers, sharded, pool, options, tierOptions)
    }

    private init(
        _ tiers: [CheckpointTier], _ sharded: [ShardedStore], _ pool: BufferPool?, _ options: SnapshotOptions,
        _ tierOptions: TierOptions
    ) throws(CairnError) {
        try Self.check(tiers, options)
        self.tiers = tiers
        self.pool = pool
        self.options = options
        self.sharded = sharded
        let isReplicating = sharded.first.map { $0.communicator.rank == 0 } ?? true
        self.isReplicating = isReplicating
        coordinator = TierCoordinator(tiers, tierOptions, isReplicating: isReplicating)
        pipelines = Mutex([SnapshotPipeline?](repeating: nil, count: tiers.count))
    }

    private static func check(_ tiers: [CheckpointTier], _ options: SnapshotOptions) throws(CairnError) {
        guard !tiers.isEmpty else { throw CairnError(.invalidArgument, "there is no tier to snapshot to") }
        var names = Set<String>()
        for tier in tiers {
            guard names.insert(tier.name).inserted else {
                throw CairnError(.invalidArgument, "two tiers have one name", .init(found: tier.name))
            }
            guard tier.interval > 0 else {
                throw CairnError(
                    .invalidArgument, "a tier's interval must be at least one step",
                    .init(expected: "at least 1", found: "\(tier.interval) for \(tier.name)"))
            }
        }
        guard options.retention == nil else {
            throw CairnError(.invalidArgument, "each tier has its own retention; the options' must not be set")
        }
    }

    /// Finds the newest state that is whole on the nearest tier.
    public var recovery: RecoveryOrder { RecoveryOrder(tiers) }

    /// The names of the tiers that get the checkpoint of `step`, the nearest first.
    package func due(_ step: Int) -> [String] { tiers.filter { $0.isDue(step) }.map(\.name) }

    /// Takes a snapshot of a state for the tiers that are due. Returns at once, unless back-pressure makes it wait for a
    /// free slot in the pipeline.
    ///
    /// It is drained into the nearest tier that is due and did not fail the last time; one that failed gets a copy instead,
    /// which shows whether it works again.
    ///
    /// - Parameters:
    ///   - foreign: Tensors in memory that is not copy-on-write, by name.
    ///   - options: As for a blocking save.
    ///   - order: Names in the order in which training will update the tensors.
    /// - Returns: `nil` when no tier is due.
    @discardableResult
    public func snapshot(
        _ state: consuming TrainingState, foreign: [(name: String, array: ForeignArray)] = [], step: Int,
        options: SaveOptions = SaveOptions(), order: [String] = []
    ) -> TieredSnapshot? {
        guard let (pipeline, pending, options) = prepare(step, options) else { return nil }
        let snapshot = pipeline.snapshot(consume state, foreign: foreign, step: step, options: options, order: order)
        return TieredSnapshot(snapshot: snapshot, tier: tiers[pending.source].name, pending: pending)
    }

    /// Takes this rank's part of a snapshot of a state that lies on several ranks, for the tiers that are due.
    ///
    /// It is drained into the nearest tier that is due, on every rank the same; see ``avoid(_:)``.
    ///
    /// - Returns: `nil` when no tier is due. On ranks other than 0 it reports on the tier alone that it is drained into.
    @discardableResult
    public func snapshot(
        _ state: consuming ShardedState, step: Int, options: SaveOptions = SaveOptions(), order: [String] = []
    ) -> TieredSnapshot? {
        guard let (pipeline, pending, options) = prepare(step, options) else { return nil }
        let snapshot = pipeline.snapshot(consume state, step: step, options: options, order: order)
        return TieredSnapshot(snapshot: snapshot, tier: tiers[pending.source].name, pending: pending)
    }

    /// Drains no snapshots into these tiers from now on where another one is due: they get copies. For tiers that are known to
    /// be slow or out of order. With several ranks all of them must call it between the same snapshots: they have to drain
    /// into the same tier, and nothing is exchanged to agree on one.
    public func avoid(_ names: Set<String>) { avoided.withLock { $0 = names } }

    /// Blocks until every snapshot has ended on every tier, or until `duration` has passed.
    ///
    /// - Returns: Whether all have ended.
    @discardableResult
    public func drain(upTo duration: Duration? = nil) -> Bool {
        let deadline = duration.map { ContinuousClock.now + $0 }
        return coordinator.waitUntilIdle(until: deadline)
    }

    /// Blocks until every snapshot has ended on every tier: what to call at the end of training.
    ///
    /// - Throws: What kept the newest snapshot of a tier from getting there, if something did, naming the tier; if there are
    ///   several, the nearest.
    public func finish() throws {
        _ = coordinator.waitUntilIdle(until: nil)
        if let failure = failures.first { throw failure.error }
    }

    /// The same without blocking the calling task's thread.
    public func finish() async throws {
        try await runOnThread { try self.finish() }
    }

    /// The tiers whose newest snapshot did not get there, the nearest first, each with the reason.
    public var failures: [(tier: String, error: CairnError)] {
        coordinator.failures.map { (tiers[$0.tier].name, $0.error) }
    }

    /// What has happened on the tiers since the last call, in the order of steps, and of one step in the order in which it
    /// happened.
    public func takeReports() -> [TierReport] { coordinator.takeReports() }

    /// Gives up every snapshot that has not been drained, and every copy.
    public func cancelAll() {
        for pipeline in made { pipeline.cancelAll() }
        coordinator.cancelCopies()
    }

    private var made: [SnapshotPipeline] { pipelines.withLock { $0.compactMap(\.self) } }

    /// Chooses where a snapshot is drained and who gets copies; `nil` when no tier is due.
    private func prepare(_ step: Int, _ given: SaveOptions) -> (SnapshotPipeline, PendingCopies, SaveOptions)? {
        let due = tiers.indices.filter { tiers[$0].isDue(step) }
        let avoided = avoided.withLock { $0 }
        let wanted = due.filter { !avoided.contains(tiers[$0].name) }
        let eligible = wanted.isEmpty ? due : wanted
        // Ranks learn at different times what failed, and must choose alike.
        guard let source = sharded.count > 0 && rankCount > 1 ? eligible.first : coordinator.best(eligible) else { return nil }
        var options = given
        let shared = sharded.isEmpty ? nil : sharded[source].nextSaveID()
        let saveID = given.saveID ?? shared ?? SaveID()
        options.saveID = saveID
        let pending = PendingCopies(
            step: step, saveID: saveID, source: source, targets: isReplicating ? due.filter { $0 != source } : [],
            isReplacing: given.replacing)
        let pipeline = pipeline(of: source)
        coordinator.launch(pending)
        return (pipeline, pending, options)
    }

    private var rankCount: Int { sharded.first?.communicator.size ?? 1 }

    private func pipeline(of tier: Int) -> SnapshotPipeline {
        let (pipeline, isNew) = pipelines.withLock { pipelines in
            if let pipeline = pipelines[tier] { return (pipeline, false) }
            var options = options
            options.observer = TierPort(coordinator: coordinator, tier: tier, next: self.options.observer)
            let pipeline =
                sharded.isEmpty
                ? SnapshotPipeline(tiers[tier].store, pool: pool, options: options)
                : SnapshotPipeline(sharded[tier], pool: pool, options: options)
            pipelines[tier] = pipeline
            return (pipeline, true)
        }
        // One budget for all pipelines, which each of them has set for itself.
        if isNew { shareBudget() }
        return pipeline
    }

    private func shareBudget() {
        guard let pool else { return }
        let (limit, patience, isGivenUp) = SnapshotPipeline.budget(options)
        let giveUp: @Sendable () -> Void = { [weak self] in
            for pipeline in self?.made ?? [] { pipeline.giveUpOldest() }
        }
        pool.copies.setLimit(limit, patience: patience, giveUp: isGivenUp ? giveUp : nil)
    }
}
