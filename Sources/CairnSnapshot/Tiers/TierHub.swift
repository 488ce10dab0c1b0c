import CairnBase
import CairnCheckpoint

/// Follows snapshots from tier to tier, and keeps the reports.
final class TierHub: Sendable {
    private struct Key: Hashable {
        var step: Int
        var saveID: SaveID
    }

    private struct State {
        var flights: [Key: TierFlight] = [:]
        /// Nothing more than this is known to be under way.
        var openCount = 0
        var reports: [TierReport] = []
        /// The tiers whose last snapshot or copy failed.
        var ailing: Set<Int> = []
        /// What the newest snapshot of a tier came to, if it did not get there.
        var newest: [Int: (began: ContinuousClock.Instant, error: CairnError?)] = [:]
    }

    /// Reports that nobody asks for are forgotten beyond this many, oldest first.
    private static let maximumReportCount = 1024

    private let tiers: [SnapshotTier]
    private let keepers: [TierKeeper]
    /// Whether this rank copies and deletes; the others only hear of their own part.
    private let isKeeping: Bool
    private let observer: (any TierObserver)?
    private let state = Monitor(State())

    init(_ tiers: [SnapshotTier], _ options: TierOptions, isKeeping: Bool) {
        self.tiers = tiers
        self.isKeeping = isKeeping
        observer = options.observer
        keepers = tiers.map { TierKeeper($0, options) }
        if isKeeping { for keeper in keepers { keeper.start() } }
    }

    // Nothing is under way any more: copies hold the hub.
    deinit { for keeper in keepers { keeper.close() } }

    /// Of `due`, which tier a snapshot is best drained into: the nearest that worked the last time.
    func best(_ due: [Int]) -> Int? {
        state.read { state in due.first { !state.ailing.contains($0) } ?? due.first }
    }

    func launch(_ flight: TierFlight) {
        // Retention must not take what is to be copied, whatever comes between.
        if !flight.targets.isEmpty { keepers[flight.source].pin(flight.step) }
        state.change { state in
            state.flights[Key(step: flight.step, saveID: flight.saveID)] = flight
            state.openCount += 1
        }
    }

    /// What a pipeline says of a snapshot that it was given.
    func snapshotEnded(_ report: SnapshotReport, on tier: Int) {
        let flight = state.change { state in
            report.timeline.saveID.flatMap { state.flights.removeValue(forKey: Key(step: report.step, saveID: $0)) }
        }
        guard let flight else { return }
        switch report.outcome {
        case .committed:
            requestPrune(tier, flight)
            conclude(flight, tier, .drained, snapshot: report)
            for target in flight.targets { copy(flight, to: target) }
        case .skipped(let reason):
            abandon(flight, .skipped(reason), report)
        case .cancelled:
            abandon(flight, .cancelled, report)
        case .failed(let error):
            abandon(flight, .failed(error), report)
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
        return keepers.allSatisfy { $0.waitUntilIdle(until: deadline) }
    }

    func cancelCopies() { for keeper in keepers { keeper.cancelAll() } }

    private func copy(_ flight: TierFlight, to target: Int) {
        keepers[target].add(.init(flight: flight, source: tiers[flight.source].store) { end in
            switch end {
            case .copied(let seconds, let byteCount, let aside):
                self.requestPrune(target, flight)
                self.conclude(
                    flight, target, .copied(from: self.tiers[flight.source].name), copySeconds: seconds,
                    copiedByteCount: byteCount, warnings: aside.map { [$0.note] } ?? [])
            case .superseded(let step): self.conclude(flight, target, .superseded(by: step))
            case .cancelled: self.conclude(flight, target, .cancelled)
            case .failed(let error): self.conclude(flight, target, .failed(error))
            }
        })
    }

    private func abandon(_ flight: TierFlight, _ outcome: TierOutcome, _ report: SnapshotReport) {
        conclude(flight, flight.source, outcome, snapshot: report)
        for target in flight.targets {
            let reason = "there is nothing to copy: \(tiers[flight.source].name) \(outcome)"
            conclude(flight, target, .skipped(reason))
        }
    }

    /// Notes what became of a snapshot on a tier.
    private func conclude(
        _ flight: TierFlight, _ tier: Int, _ outcome: TierOutcome, snapshot: SnapshotReport? = nil,
        copySeconds: Double = 0, copiedByteCount: Int = 0, warnings: [CairnError] = []
    ) {
        var report = report(flight, tier, outcome)
        report.snapshot = snapshot
        report.warnings = (snapshot?.warnings ?? []) + warnings
        report.copySeconds = copySeconds
        report.copiedByteCount = copiedByteCount
        observer?.tierReported(report)
        state.change { state in
            switch outcome {
            case .failed: state.ailing.insert(tier)
            case .drained, .copied: state.ailing.remove(tier)
            default: break
            }
            Self.keep(report, in: &state.reports)
            if state.newest[tier].map({ $0.began <= flight.began }) ?? true {
                state.newest[tier] = (flight.began, Self.failure(report))
            }
        }
        guard flight.note(report) else { return }
        if !flight.targets.isEmpty {
            keepers[flight.source].unpin(flight.step)
            requestPrune(flight.source, flight)
        }
        state.change { $0.openCount -= 1 }
    }

    private func requestPrune(_ tier: Int, _ flight: TierFlight) {
        guard isKeeping else { return }
        keepers[tier].requestPrune { error in
            let report = self.report(flight, tier, .retentionFailed(error))
            self.observer?.tierReported(report)
            self.state.change { Self.keep(report, in: &$0.reports) }
        }
    }

    private func report(_ flight: TierFlight, _ tier: Int, _ outcome: TierOutcome) -> TierReport {
        TierReport(
            tier: tiers[tier].name, step: flight.step, saveID: flight.saveID, outcome: outcome,
            seconds: .init(since: flight.began))
    }

    /// Why a tier lacks a checkpoint that it should have. What somebody cancelled, or a later one took the place of, is none.
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
    let hub: TierHub
    let tier: Int
    let next: (any SnapshotObserver)?

    func snapshotEnded(_ report: SnapshotReport) {
        next?.snapshotEnded(report)
        hub.snapshotEnded(report, on: tier)
    }
}
