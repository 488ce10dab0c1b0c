public import CairnSnapshot
public import CoreMetrics

/// Records what snapshots cost in whatever metrics system the process has bootstrapped (swift-metrics).
///
/// ```swift
/// var options = SnapshotOptions()
/// options.observer = SnapshotMetrics()
/// ```
///
/// Timers, one recording for each snapshot that was committed: `cairn_snapshot_retain`, `…_wait`, `…_queue`, `…_drain`,
/// `…_encode`, `…_store`, `…_durable`, `…_commit`, `…_total`, `…_update_wait`: the phases of ``SnapshotTimeline``. `…_retain` and
/// `…_wait` are recorded for snapshots that were not committed too: training paid for them.
///
/// Counters: `cairn_snapshots_total` with the dimension `outcome` (`committed`, `skipped`, `cancelled`, `failed`),
/// `cairn_snapshot_bytes_total` (of committed snapshots), `cairn_snapshot_copies_total` and `cairn_snapshot_copied_bytes_total`
/// (updates that went into another buffer), `cairn_snapshot_warnings_total`. Gauges: `cairn_snapshot_step`, the last committed
/// step, and `cairn_snapshot_held_high_water_bytes`.
///
/// For tiers, each with the dimension `tier`: the timers `cairn_tier_copy` and `cairn_tier_delay` (from the call until the
/// checkpoint was there), the counters `cairn_tier_reports_total` with the dimension `outcome` (`drained`, `copied`,
/// `superseded`, `skipped`, `cancelled`, `failed`, `retention_failed`) and `cairn_tier_copied_bytes_total`, and the gauge
/// `cairn_tier_step`, the newest step that the tier has.
public struct SnapshotMetrics: SnapshotObserver, TierObserver {
    private let dimensions: [(String, String)]
    private let factory: any MetricsFactory

    /// - Parameters:
    ///   - dimensions: What every metric carries besides its own: the run, the rank.
    ///   - factory: Where the metrics come from; the one that was bootstrapped by default.
    public init(dimensions: [(String, String)] = [], factory: (any MetricsFactory)? = nil) {
        self.dimensions = dimensions
        self.factory = factory ?? MetricsSystem.factory
    }

    public func snapshotEnded(_ report: SnapshotReport) {
        let timeline = report.timeline
        counter("cairn_snapshots_total", [("outcome", report.outcome.label)]).increment()
        counter("cairn_snapshot_warnings_total").increment(by: report.warnings.count)
        record(timeline.retain, "cairn_snapshot_retain")
        record(timeline.wait, "cairn_snapshot_wait")
        guard report.outcome.isCommitted else { return }
        for (name, seconds) in timeline.backgroundPhases { record(seconds, "cairn_snapshot_" + name) }
        counter("cairn_snapshot_bytes_total").increment(by: timeline.byteCount)
        counter("cairn_snapshot_copies_total").increment(by: timeline.copyCount)
        counter("cairn_snapshot_copied_bytes_total").increment(by: timeline.copiedByteCount)
        gauge("cairn_snapshot_step").record(report.step)
        gauge("cairn_snapshot_held_high_water_bytes").record(timeline.heldHighWaterByteCount)
    }

    public func tierReported(_ report: TierReport) {
        let tier = [("tier", report.tier)]
        counter("cairn_tier_reports_total", tier + [("outcome", report.outcome.label)]).increment()
        guard report.outcome.isThere else { return }
        record(report.seconds, "cairn_tier_delay", tier)
        gauge("cairn_tier_step", tier).record(report.step)
        guard case .copied = report.outcome else { return }
        record(report.copySeconds, "cairn_tier_copy", tier)
        counter("cairn_tier_copied_bytes_total", tier).increment(by: report.copiedByteCount)
    }

    private func counter(_ label: String, _ own: [(String, String)] = []) -> Counter {
        Counter(label: label, dimensions: dimensions + own, factory: factory)
    }

    private func gauge(_ label: String, _ own: [(String, String)] = []) -> Gauge {
        Gauge(label: label, dimensions: dimensions + own, factory: factory)
    }

    private func record(_ seconds: Double, _ label: String, _ own: [(String, String)] = []) {
        let timer = CoreMetrics.Timer(label: label, dimensions: dimensions + own, factory: factory)
        timer.recordNanoseconds(Int64(exactly: (seconds * 1e9).rounded()) ?? 0)
    }
}

extension SnapshotTimeline {
    fileprivate var backgroundPhases: [(String, Double)] {
        [
            ("queue", queue), ("drain", drain), ("encode", encode), ("store", store), ("durable", durable),
            ("commit", commit), ("total", total), ("update_wait", updateWait),
        ]
    }
}

extension SnapshotOutcome {
    fileprivate var label: String {
        switch self {
        case .committed: "committed"
        case .skipped: "skipped"
        case .cancelled: "cancelled"
        case .failed: "failed"
        }
    }
}

extension TierOutcome {
    fileprivate var label: String {
        switch self {
        case .drained: "drained"
        case .copied: "copied"
        case .superseded: "superseded"
        case .skipped: "skipped"
        case .cancelled: "cancelled"
        case .failed: "failed"
        case .retentionFailed: "retention_failed"
        }
    }
}
