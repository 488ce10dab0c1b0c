public import CairnCheckpoint

/// One of the stores that checkpoints of a run go to: host memory, a local disk, a second storage.
public struct SnapshotTier: Sendable {
    /// What to call it in reports.
    public var name: String
    /// Its checkpoints.
    public var store: CheckpointStore
    /// It gets the checkpoint of every step that is a multiple of this.
    public var interval: Int
    /// What it keeps after each new checkpoint; `nil` keeps everything.
    public var retention: RetentionPolicy?

    public init(
        _ name: String, store: CheckpointStore, every interval: Int = 1, retention: RetentionPolicy? = nil
    ) {
        self.name = name
        self.store = store
        self.interval = interval
        self.retention = retention
    }

    /// Whether it gets the checkpoint of `step`.
    public func isDue(_ step: Int) -> Bool { interval > 0 && step % interval == 0 }
}

/// How checkpoints get from the tier that a snapshot is drained into to the others.
public struct TierOptions: Sendable {
    /// How many copies may wait for each tier beside the one under way. When there are more, the oldest is dropped and
    /// reported as ``TierOutcome/superseded(by:)``: a slow storage gets fewer checkpoints and never holds up training.
    public var maximumWaiting = 1
    /// How many threads copy to each tier.
    public var copyConcurrency = 1
    /// Told of everything that happens on a tier, on a thread of the background.
    public var observer: (any TierObserver)?

    public init() {}
}

/// Is told what became of checkpoints on each tier.
public protocol TierObserver: Sendable {
    /// Called once for each tier that a snapshot was due for, and whenever retention fails.
    func tierReported(_ report: TierReport)
}
