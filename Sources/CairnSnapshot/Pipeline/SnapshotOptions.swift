public import CairnCheckpoint

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

    public init() {}
}

/// Is told of snapshots that have ended.
public protocol SnapshotObserver: Sendable {
    /// Called once for each snapshot, whatever became of it, on a thread of the pipeline.
    func snapshotEnded(_ report: SnapshotReport)
}
