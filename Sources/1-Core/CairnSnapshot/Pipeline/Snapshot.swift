private import CCairnSystem
public import CairnBase
public import CairnCheckpoint
import CairnTensor
import Synchronization

/// A snapshot that a pipeline has taken: on its way to the storage, or arrived.
public final class Snapshot: Sendable {
    private struct State {
        var report: SnapshotReport?
        var waiters: [CheckedContinuation<SnapshotOutcome, Never>] = []
        var isCancelled = false
        /// Why it was given up, if it was not the user.
        var reason: String?
    }

    /// The step that was saved.
    public let step: Int
    /// The id of the save.
    public let saveID: SaveID
    private let state = Monitor(State())
    private let written = Atomic(0)
    private let total = Atomic(0)

    init(step: Int, saveID: SaveID) {
        self.step = step
        self.saveID = saveID
    }

    /// What became of it; `nil` while it is on its way.
    public var outcome: SnapshotOutcome? { report?.outcome }

    /// The same with times and warnings.
    public var report: SnapshotReport? { state.read(\.report) }

    /// The bytes that have been handed to the storage, and those that will be.
    public var progress: (written: Int, total: Int) {
        (written.load(ordering: .relaxed), total.load(ordering: .relaxed))
    }

    /// Blocks until it has ended, or until `duration` has passed.
    ///
    /// - Returns: What became of it; `nil` when it is still on its way.
    @discardableResult
    public func wait(upTo duration: Duration? = nil) -> SnapshotOutcome? {
        state.wait(until: duration.map { .now + $0 }) { $0.report?.outcome }
    }

    /// Waits until it has ended, without blocking a thread.
    public func finished() async -> SnapshotOutcome {
        await withCheckedContinuation { continuation in
            let outcome: SnapshotOutcome? = state.change { state in
                if state.report == nil { state.waiters.append(continuation) }
                return state.report?.outcome
            }
            if let outcome { continuation.resume(returning: outcome) }
        }
    }

    /// Gives it up: its tensors are released as soon as no thread reads them, and nothing is committed. Too late once the
    /// commit has begun.
    public func cancel() { giveUp(nil) }

    /// Gives it up for a reason that is reported as ``SnapshotOutcome/skipped(_:)``.
    func giveUp(_ reason: String?) {
        state.change { state in
            guard !state.isCancelled else { return }
            state.isCancelled = true
            state.reason = reason
        }
    }

    var isCancelled: Bool { state.read(\.isCancelled) }

    func checkCancellation() throws(CairnError) {
        if isCancelled { throw CairnError(.cancelled, "the snapshot was given up", .init(found: "step \(step)")) }
    }

    /// How an error ended it.
    func outcome(of error: CairnError) -> SnapshotOutcome {
        state.read { state in
            guard state.isCancelled, error.code == .cancelled else { return .failed(error) }
            return state.reason.map { .skipped($0) } ?? .cancelled
        }
    }

    func noteTotal(_ byteCount: Int) { total.store(byteCount, ordering: .relaxed) }

    func noteWritten(_ byteCount: Int) { written.add(byteCount, ordering: .relaxed) }

    func end(_ report: SnapshotReport) {
        let waiters = state.change { state in
            state.report = report
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: report.outcome) }
    }
}

/// What became of a snapshot.
public enum SnapshotOutcome: Sendable {
    /// It is a durable checkpoint of this save id.
    case committed(SaveID)
    /// It was not taken, or given up, because of back-pressure; the sentence says why.
    case skipped(String)
    /// It was cancelled.
    case cancelled
    /// It could not be saved. Older checkpoints are untouched, and later snapshots may succeed.
    case failed(CairnError)

    /// Whether there is a checkpoint.
    public var isCommitted: Bool {
        if case .committed = self { true } else { false }
    }
}

extension SnapshotOutcome: CustomStringConvertible {
    public var description: String {
        switch self {
        case .committed: "committed"
        case .skipped(let reason): "skipped: \(reason)"
        case .cancelled: "cancelled"
        case .failed(let error): "failed: \(error)"
        }
    }
}

/// A snapshot that has ended.
public struct SnapshotReport: Sendable {
    public var step: Int
    public var outcome: SnapshotOutcome
    /// How long each phase took, and what it cost.
    public var timeline: SnapshotTimeline
    /// What went wrong without harming the checkpoint: retention that could not delete, for example.
    public var warnings: [CairnError] = []
}

/// A snapshot on its way, with what it holds.
final class SnapshotJob: Sendable {
    let snapshot: Snapshot
    let content: SaveContent
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
        _ snapshot: Snapshot, _ content: SaveContent, _ options: SaveOptions, order: [String],
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
    func release() -> Bool {
        content.release()
        let isFirst = isHolding.exchange(false, ordering: .acquiringAndReleasing)
        if isFirst { budget?.endDrain() }
        budget?.noteRelease()
        return isFirst
    }
}

/// One of the machine's processors.
///
/// Training continues where it called for a snapshot. Writers that run there, too, take its place each time the disk wakes
/// them, although another processor may be idle; kept off it they cost training a third less.
package struct Processor: Hashable {
    private let number: Int32

    /// The one that this thread runs on.
    package static var current: Processor { Processor(number: cairn_current_processor()) }

    /// Keeps this thread off it until the next call for another, as long as there is another that the thread may use.
    package func keepOff() { cairn_keep_off_processor(number) }
}
