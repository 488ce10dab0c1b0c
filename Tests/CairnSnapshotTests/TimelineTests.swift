import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// What a snapshot tells of itself.
@Suite struct TimelineTests {
    @Test func theFileBesideTheManifestHasThePhases() throws {
        var random = SimulationRandom(seed: 2)
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "memory")
        let pipeline = SnapshotPipeline(store)
        let state = try sampleState(&random, pool: nil)
        let report = pipeline.snapshot(state, step: 8).wait()
        #expect(report?.isCommitted == true && pipeline.drain())
        let manifest = try store.open(step: 8).manifest
        let timelines = try #require(try TimelineFile.read(of: manifest, in: store))
        let timeline = try #require(timelines.first)
        #expect(timelines.count == 1 && timeline.step == 8 && timeline.saveID == manifest.saveID)
        #expect(timeline.byteCount == state.byteCount)
        #expect(timeline.total >= timeline.drain && timeline.drain > 0 && timeline.encode > 0 && timeline.store > 0)
        #expect(timeline.began > 1e9)

        // One of another save of the step does not belong to this checkpoint.
        var other = manifest
        other.saveID = SaveID(using: &random)
        #expect(try TimelineFile.read(of: other, in: store) == nil)
        try storage.publish(Array("{\"schema\":\"cairn-timeline/1\"}".utf8), as: "step-00000008/timeline.json")
        #expect(throws: CairnError.self) { try TimelineFile.read(of: manifest, in: store) }
    }

    /// The commit of step 1 returns only when the retention of step 2 has deleted it: its timeline would be debris.
    @Test func aCheckpointThatRetentionHasDeletedGetsNoTimeline() throws {
        let storage = LateCommitStorage()
        let options = SnapshotOptions(backPressure: .grow, retention: RetentionPolicy(keepLast: 1))
        let pipeline = SnapshotPipeline(CheckpointStore(storage: storage, name: "memory"), options: options)
        var random = SimulationRandom(seed: 3)
        for step in [1, 2] { pipeline.snapshot(try sampleState(&random, pool: nil), step: step) }
        try pipeline.finish()
        let reports = pipeline.takeReports()
        #expect(reports.count == 2 && reports.map(\.outcome.isCommitted) == [true, true])
        let (deleted, kept) = (try storage.list("step-00000001/").map(\.key), try storage.list("step-00000002/").map(\.key))
        #expect(deleted == [])
        #expect(kept.contains("step-00000002/timeline.json"))
    }
}

/// Memory in which the commit of step 1 returns when that checkpoint has been deleted again.
private struct LateCommitStorage: Storage {
    private let inner = MemoryStorage()

    func open(_ key: String) throws(CairnError) -> any StorageFile { try inner.open(key) }

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try inner.create(key, byteCount: byteCount)
    }

    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        try inner.publish(bytes, as: key)
        if key == "step-00000001/manifest.json" {
            do {
                try waitUntil("step 1 is deleted", within: .seconds(60)) { try inner.list(key).isEmpty }
            } catch {
                throw CairnError(wrapping: error, "step 1 stays")
            }
        }
    }

    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try inner.list(prefix) }

    func delete(_ keys: [String]) throws(CairnError) { try inner.delete(keys) }
}
