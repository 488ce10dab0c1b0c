import CairnBase
import CairnCheckpoint

/// Follows snapshots from tier to tier, and keeps the reports.
final class TierCoordinator: Sendable {
    private struct Key: Hashable {
        var step: Int
        var saveID: SaveID
    }

    private struct State {
        var pending: [Key: PendingCopies] = [:]
        /// Nothing more than this is known to be under way.
        var openCount = 0
        var reports: [TierReport] = []
        /// The tiers whose last snapshot or copy failed.
        var failing: Set<Int> = []
        /// What the newest snapshot of a tier came to, if it did not get there.
        var newest: [Int: (began: ContinuousClock.Instant, error: CairnError?)] = [:]
    }

    /// Reports that are not taken are forgotten beyond this many, oldest first.
    private static let maximumReportCount = 1024

    private let tiers: [CheckpointTier]
    private let replicators: [TierReplicator]
    /// Whether this rank copies and deletes; the others only hear of their own part.
    private let isReplicating: Bool
    private let observer: (any TierObserver)?
    private let state = Monitor(State())

    init(_ tiers: [CheckpointTier], _ options: TierOptions, isReplicating: Bool) {
        self.tiers = tiers
        self.isReplicating = isReplicating
        observer = options.observer
        replicators = tiers.map { TierReplicator($0, options) }
        if isReplicating { for replicator in replicators { replicator.start() } }
    }

    // Nothing is under way any more: copies hold the coordinator.
    deinit { for replicator in replicators { replicator.close() } }

    /// Which tier of `due` a snapshot is best drained into: the nearest that worked the last time.
    func best(_ due: [Int]) -> Int? {
        state.read { state in due.first { !state.failing.contains($0) } ?? due.first }
    }

    func launch(_ pending: PendingCopies) {
        // Retention must not take what is to be copied, whatever comes between.
        if !pending.targets.isEmpty { replicators[pending.source].pin(pending.step) }
        state.change { state in
            state.pending[Key(step: pending.step, saveID: pending.saveID)] = pending
            state.openCount += 1
        }
    }

    /// What a pipeline says of a snapshot that it was given.
    func snapshotEnded(_ report: SnapshotReport, on tier: Int) {
        let pending = state.change { state in
            report.timeline.saveID.flatMap { state.pending.removeValue(forKey: Key(step: report.step, saveID: $0)) }
        }
        guard let pending else { return }
        switch report.outcome {
        case .committed:
            requestPrune(tier, pending)
            conclude(pending, tier, .drained, snapshot: report)
            for target in pending.targets { copy(pending, to: target) }
        case .skipped(let reason):
            abandon(pending, .skipped(reason), report)
        case .cancelled:
            abandon(pending, .cancelled, report)
        case .failed(let error):
            abandon(pending, .failed(error), report)
        }
    }

    func takeReports() -> [TierReport] {
        state.change { state in
            defer { state.reports = [] }
            let order = state.reports.enumerated().sorted { ($0.element.step, $0.offset) < ($1.element.step, $1.offset) }
            return order.map(\.element)
        }
    }

    /// The tiers whose newest snapshot did not get there.
    var failures: [(tier: Int, error: CairnError)] {
        state.read { state in
            state.newest.sorted { $0.key < $1.key }.compactMap { entry in
                entry.value.error.map { (entry.key, $0) }
            }
        }
    }

    func waitUntilIdle(until deadline: ContinuousClock.Instant?) -> Bool {
        guard state.wait(until: deadline, for: { $0.openCount == 0 ? true : nil }) != nil else { return false }
        return replicators.allSatisfy { $0.waitUntilIdle(until: deadline) }
    }

    func cancelCopies() { for replicator in replicators { replicator.cancelAll() } }

    private func copy(_ pending: PendingCopies, to target: Int) {
        replicators[target].add(
            .init(pending: pending, source: tiers[pending.source].store) { end in
                switch end {
                case .copied(let seconds, let byteCount, let aside):
                    self.requestPrune(target, pending)
                    self.conclude(
                        pending, target, .copied(from: self.tiers[pending.source].name), copySeconds: seconds,
                        copiedByteCount: byteCount, warnings: aside.map { [$0.warning] } ?? [])
                case .superseded(let step): self.conclude(pending, target, .superseded(by: step))
                case .cancelled: self.conclude(pending, target, .cancelled)
                case .failed(let error): self.conclude(pending, target, .failed(error))
                }
            })
    }

    private func abandon(_ pending: PendingCopies, _ outcome: TierOutcome, _ report: SnapshotReport) {
        conclude(pending, pending.source, outcome, snapshot: report)
        for target in pending.targets {
            let reason = "there is nothing to copy: \(tiers[pending.source].name) \(outcome)"
            conclude(pending, target, .skipped(reason))
        }
    }

    /// Reports what became of a snapshot on a tier.
    private func conclude(
        _ pending: PendingCopies, _ tier: Int, _ outcome: TierOutcome, snapshot: SnapshotReport? = nil,
        copySeconds: Double = 0, copiedByteCount: Int = 0, warnings: [CairnError] = []
    ) {
        var report = report(pending, tier, outcome)
        report.snapshot = snapshot
        report.warnings = (snapshot?.warnings ?? []) + warnings
        report.copySeconds = copySeconds
        report.copiedByteCount = copiedByteCount
        observer?.tierReported(report)
        state.change { state in
            switch outcome {
            case .failed: state.failing.insert(tier)
            case .drained, .copied: state.failing.remove(tier)
            default: break
            }
            Self.keep(report, in: &state.reports)
            if state.newest[tier].map({ $0.began <= pending.began }) ?? true {
                state.newest[tier] = (pending.began, Self.failure(report))
            }
        }
        guard pending.add(report) else { return }
        if !pending.targets.isEmpty {
            replicators[pending.source].unpin(pending.step)
            requestPrune(pending.source, pending)
        }
        state.change { $0.openCount -= 1 }
    }

    private func requestPrune(_ tier: Int, _ pending: PendingCopies) {
        guard isReplicating else { return }
        replicators[tier].requestPrune { error in
            let report = self.report(pending, tier, .retentionFailed(error))
            self.observer?.tierReported(report)
            self.state.change { Self.keep(report, in: &$0.reports) }
        }
    }

    private func report(_ pending: PendingCopies, _ tier: Int, _ outcome: TierOutcome) -> TierReport {
        TierReport(
            tier: tiers[tier].name, step: pending.step, saveID: pending.saveID, outcome: outcome,
            seconds: .init(since: pending.began))
    }

    /// Why a tier lacks a checkpoint that it should have. A cancelled or superseded one is not a failure.
    private static func failure(_ report: TierReport) -> CairnError? {
        switch report.outcome {
        case .drained, .copied, .superseded, .cancelled, .retentionFailed: nil
        case .failed(let error): error
        case .skipped(let reason):
            CairnError(
                .incomplete, "the newest snapshot did not get to the tier \(report.tier): \(reason)",
                .init(expected: "a checkpoint of step \(report.step)"))
        }
    }

    private static func keep(_ report: TierReport, in reports: inout [TierReport]) {
        reports.append(report)
        if reports.count > maximumReportCount { reports.removeFirst() }
    }
}

/// Passes on what the pipeline of a tier says.
struct TierPort: SnapshotObserver {
    let coordinator: TierCoordinator
    let tier: Int
    let next: (any SnapshotObserver)?

    func snapshotEnded(_ report: SnapshotReport) {
        next?.snapshotEnded(report)
        coordinator.snapshotEnded(report, on: tier)
    }
}

/// A snapshot that is being drained into one tier and copied to the others that are due.
final class PendingCopies: Sendable {
    let step: Int
    let saveID: SaveID
    /// The tier that it is drained into.
    let source: Int
    /// The tiers that get a copy afterwards.
    let targets: [Int]
    let isReplacing: Bool
    let began = ContinuousClock.now
    private let reports = Monitor<[TierReport]>([])

    init(step: Int, saveID: SaveID, source: Int, targets: [Int], isReplacing: Bool) {
        self.step = step
        self.saveID = saveID
        self.source = source
        self.targets = targets
        self.isReplacing = isReplacing
    }

    /// Adds what became of it on a tier.
    ///
    /// - Returns: Whether that was the last one.
    func add(_ report: TierReport) -> Bool {
        reports.change { reports in
            reports.append(report)
            return reports.count == targets.count + 1
        }
    }

    func wait(upTo duration: Duration?) -> [TierReport]? {
        reports.wait(until: duration.map { .now + $0 }) { $0.count == targets.count + 1 ? $0 : nil }
    }

    var known: [TierReport] { reports.read { $0 } }
}

/// A snapshot that was taken for one or more tiers.
public struct TieredSnapshot: Sendable {
    /// The snapshot, on its way to the tier that it is drained into.
    public let snapshot: Snapshot
    /// The name of that tier.
    public let tier: String
    let pending: PendingCopies

    /// The step that was saved.
    public var step: Int { pending.step }

    /// What became of it so far, one report for each tier.
    public var reports: [TierReport] { pending.known }

    /// Blocks until it has ended on every tier that was due, or until `duration` has passed.
    ///
    /// - Returns: One report for each tier, in the order in which it ended there; `nil` when it is still on its way.
    @discardableResult
    public func wait(upTo duration: Duration? = nil) -> [TierReport]? { pending.wait(upTo: duration) }
}
