import CairnBase
public import CairnCheckpoint
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
