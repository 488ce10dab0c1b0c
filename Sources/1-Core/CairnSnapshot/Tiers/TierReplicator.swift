import CairnBase
import CairnCheckpoint
import Synchronization

/// The thread of one tier: copies checkpoints to it, one after the other, and deletes those that its policy does not keep.
final class TierReplicator: Sendable {
    /// A checkpoint that is to be copied to the tier.
    struct Copy: Sendable {
        var pending: PendingCopies
        var source: CheckpointStore
        /// Told how it ended.
        var end: @Sendable (CopyEnd) -> Void
    }

    /// How a copy ended.
    enum CopyEnd: Sendable {
        case copied(seconds: Double, byteCount: Int, setAside: SetAside?)
        case superseded(by: Int)
        case failed(CairnError)
        case cancelled
    }

    private struct State {
        var waiting: [Copy] = []
        /// Told if retention fails.
        var prune: (@Sendable (CairnError) -> Void)?
        var isBusy = false
        var isClosed = false
        /// Rises when everything before is cancelled.
        var cancellations = 0
        /// How many snapshots need a step of this tier to stay.
        var pins: [Int: Int] = [:]
    }

    private enum Task {
        case copy(Copy, cancellations: Int)
        case prune(@Sendable (CairnError) -> Void)
        case end
    }

    private let tier: CheckpointTier
    private let options: TierOptions
    private let state = Monitor(State())

    init(_ tier: CheckpointTier, _ options: TierOptions) {
        self.tier = tier
        self.options = options
    }

    /// Starts the thread; it ends when everything is done after ``close()``.
    func start() {
        startThread {
            while true {
                switch self.next() {
                case .copy(let copy, let cancellations): self.run(copy, cancellations)
                case .prune(let fail): self.prune(fail)
                case .end: return
                }
                self.state.change { $0.isBusy = false }
            }
        }
    }

    func close() { state.change { $0.isClosed = true } }

    /// Queues a copy. The oldest ones that wait are dropped when there are too many, in whatever order they were drained.
    func add(_ copy: Copy) {
        let limit = max(1, options.maximumWaiting)
        let (dropped, newest) = state.change { state in
            let position = state.waiting.lastIndex { $0.pending.began <= copy.pending.began }.map { $0 + 1 } ?? 0
            state.waiting.insert(copy, at: position)
            let excess = max(0, state.waiting.count - limit)
            defer { state.waiting.removeFirst(excess) }
            return (state.waiting.prefix(excess), state.waiting.last ?? copy)
        }
        for old in dropped { old.end(.superseded(by: newest.pending.step)) }
    }

    /// Has retention run when the thread comes to it.
    func requestPrune(_ fail: @escaping @Sendable (CairnError) -> Void) {
        guard tier.retention != nil else { return }
        state.change { $0.prune = fail }
    }

    /// Gives up the copy under way and those that wait.
    func cancelAll() {
        let dropped = state.change { state in
            state.cancellations += 1
            defer { state.waiting = [] }
            return state.waiting
        }
        for copy in dropped { copy.end(.cancelled) }
    }

    func waitUntilIdle(until deadline: ContinuousClock.Instant?) -> Bool {
        state.wait(until: deadline) { $0.waiting.isEmpty && $0.prune == nil && !$0.isBusy ? true : nil } ?? false
    }

    /// Keeps the checkpoint of a step from being deleted, until as many calls of ``unpin(_:)``.
    func pin(_ step: Int) { state.change { $0.pins[step, default: 0] += 1 } }

    func unpin(_ step: Int) {
        state.change { state in
            let count = (state.pins[step] ?? 0) - 1
            state.pins[step] = count > 0 ? count : nil
        }
    }

    private func next() -> Task {
        state.wait { state -> Task? in
            // Retention first: it makes room.
            if let fail = state.prune {
                state.prune = nil
                state.isBusy = true
                return .prune(fail)
            }
            if !state.waiting.isEmpty {
                state.isBusy = true
                return .copy(state.waiting.removeFirst(), cancellations: state.cancellations)
            }
            return state.isClosed ? .end : nil
        } ?? .end
    }

    private func run(_ copy: Copy, _ cancellations: Int) {
        let start = ContinuousClock.now
        let byteCount = Atomic(0)
        var options = ReplicationOptions()
        options.saveID = copy.pending.saveID
        options.replacing = copy.pending.isReplacing
        options.concurrency = self.options.copyConcurrency
        options.progress = { [state] count in
            guard state.read({ $0.cancellations }) == cancellations else {
                throw CairnError(.cancelled, "the copy was given up", .init(found: "step \(copy.pending.step)"))
            }
            byteCount.add(count, ordering: .relaxed)
        }
        do {
            let copied = try copy.source.replicate(step: copy.pending.step, to: tier.store, options: options)
            copy.end(
                .copied(
                    seconds: .init(since: start), byteCount: byteCount.load(ordering: .relaxed), setAside: copied.setAside))
        } catch {
            let failure = CairnError(wrapping: error, "the checkpoint could not be copied")
            copy.end(failure.code == .cancelled ? .cancelled : .failed(failure))
        }
    }

    private func prune(_ fail: @Sendable (CairnError) -> Void) {
        guard let retention = tier.retention else { return }
        do throws(CairnError) {
            _ = try tier.store.prune(retention, protecting: state.read { Set($0.pins.keys) })
        } catch {
            fail(error)
        }
    }
}
