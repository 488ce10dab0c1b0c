import CairnBase
import CairnCheckpoint
import CairnMetrics
import CairnSnapshot
import CairnStorage
import CairnTensor
import CoreMetrics
import MetricsTestKit
import Testing

/// What snapshots report to a metrics system.
@Suite struct SnapshotMetricsTests {
    private let system = TestMetrics()

    private func state(_ step: Int) -> TrainingState {
        var state = TrainingState()
        state.set(Tensor((0..<2000).map { Float(step + $0) }), for: "w")
        return state
    }

    private func store(_ name: String) -> CheckpointStore { CheckpointStore(storage: MemoryStorage(), name: name) }

    @Test func everyPhaseOfACommittedSnapshotIsRecorded() throws {
        let metrics = SnapshotMetrics(dimensions: [("run", "kjv")], factory: system)
        var options = SnapshotOptions()
        options.observer = metrics
        let pipeline = SnapshotPipeline(store("run"), options: options)
        for step in [1, 2, 2] { pipeline.snapshot(state(step), step: step).wait() }
        pipeline.drain()
        let run = [("run", "kjv")]
        for phase in [
            "queue", "drain", "encode", "store", "durable", "commit", "total", "update_wait",
        ] {
            #expect(try system.expectTimer("cairn_snapshot_" + phase, run).values.count == 2, "\(phase)")
        }
        for phase in ["retain", "wait"] {
            #expect(try system.expectTimer("cairn_snapshot_" + phase, run).values.count == 3, "\(phase)")
        }
        #expect(try (system.expectTimer("cairn_snapshot_total", run).lastValue ?? 0) > 0)
        func ended(_ outcome: String) -> Int64 {
            system.counterTotal(label: "cairn_snapshots_total", dimensions: run + [("outcome", outcome)])
        }
        #expect(ended("committed") == 2 && ended("failed") == 1 && ended("skipped") == 0)
        #expect(system.counterTotal(label: "cairn_snapshot_bytes_total", dimensions: run) == 2 * 8000)
        #expect(try system.expectGauge("cairn_snapshot_step", run).lastValue == 2)
    }

    @Test func tiersAreToldApart() throws {
        let metrics = SnapshotMetrics(factory: system)
        var options = TierOptions()
        options.observer = metrics
        let snapshots = try TieredSnapshots(
            [CheckpointTier("memory", store: store("memory")), CheckpointTier("disk", store: store("disk"), every: 2)],
            tierOptions: options)
        for step in 1...4 { snapshots.snapshot(state(step), step: step)?.wait() }
        snapshots.drain()
        func reports(_ tier: String, _ outcome: String) -> Int64 {
            system.counterTotal(
                label: "cairn_tier_reports_total", dimensions: [("tier", tier), ("outcome", outcome)])
        }
        #expect(reports("memory", "drained") == 4 && reports("disk", "copied") == 2)
        #expect(try system.expectTimer("cairn_tier_copy", [("tier", "disk")]).values.count == 2)
        #expect(try system.expectTimer("cairn_tier_delay", [("tier", "memory")]).values.count == 4)
        #expect(system.counterTotal(label: "cairn_tier_copied_bytes_total", dimensions: [("tier", "disk")]) >= 2 * 8000)
        #expect(try system.expectGauge("cairn_tier_step", [("tier", "disk")]).lastValue == 4)
    }
}
