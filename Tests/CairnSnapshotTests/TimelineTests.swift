import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
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
}
