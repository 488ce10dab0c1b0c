import CairnBase
import CairnCheckpoint
import CairnTensor
import Synchronization

/// A snapshot on its way, with what it holds.
final class SnapshotJob: Sendable {
    let snapshot: Snapshot
    let content: SnapshotContent
    let options: SaveOptions
    /// The names in the order in which training will update them.
    let order: [String]
    /// Where training called for it.
    let processor = Processor.current
    let taken: ContinuousClock.Instant
    /// What training had paid for snapshots until then.
    let copies: CopyStatistics
    /// Times as far as they were known when it was taken.
    let timeline: SnapshotTimeline
    private let isHolding = Atomic(true)
    private let budget: CopyBudget?

    init(
        _ snapshot: Snapshot, _ content: SnapshotContent, _ options: SaveOptions, order: [String],
        taken: ContinuousClock.Instant, timeline: SnapshotTimeline, budget: CopyBudget?
    ) {
        self.snapshot = snapshot
        self.content = content
        self.options = options
        self.order = order
        self.taken = taken
        self.timeline = timeline
        self.budget = budget
        copies = budget?.statistics ?? CopyStatistics()
        budget?.beginDrain()
    }

    /// Releases everything that is still held.
    ///
    /// - Returns: Whether this is the first call.
    @discardableResult
    func letGo() -> Bool {
        content.letGo()
        let isFirst = isHolding.exchange(false, ordering: .acquiringAndReleasing)
        if isFirst { budget?.endDrain() }
        budget?.noteRelease()
        return isFirst
    }
}
