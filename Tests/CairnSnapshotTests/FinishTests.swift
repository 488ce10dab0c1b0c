import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnSnapshot
import CairnStorage
import CairnTensor
import Testing

/// The end of a run that saves in the background, and what it says of checkpoints that were in the way.
@Suite struct FinishTests {
    private let storage = ManagedStorage()
    private var store: CheckpointStore { CheckpointStore(storage: storage, name: "managed") }

    @Test func aStorageThatFailsForGoodIsSeen() throws {
        let pipeline = SnapshotPipeline(store)
        pipeline.snapshot(try tierState(1), step: 1)
        try pipeline.finish()
        #expect(pipeline.failure == nil)
        storage.fail(CairnError(.noSpace, "the disk is full"))
        pipeline.snapshot(try tierState(2), step: 2)
        let error = #expect(throws: CairnError.self) { try pipeline.finish() }
        #expect(error?.code == .noSpace && pipeline.failure?.code == .noSpace)
        storage.fail(nil)
        pipeline.snapshot(try tierState(3), step: 3)
        try pipeline.finish()
        #expect(pipeline.failure == nil, "a later one went through")
        #expect(pipeline.takeReports().map(\.step) == [1, 2, 3])
    }

    @Test func aSkippedLastSnapshotIsNoGoodEndAndACancelledOneIs() throws {
        var options = SnapshotOptions()
        options.backPressure = .skip
        options.maximumInFlight = 1
        let pipeline = SnapshotPipeline(store, options: options)
        storage.close()
        pipeline.snapshot(try tierState(1), step: 1)
        pipeline.snapshot(try tierState(2), step: 2)
        storage.open()
        #expect(throws: CairnError.self) { try pipeline.finish() }
        #expect(pipeline.failure?.code == .incomplete)
        storage.close()
        let last = pipeline.snapshot(try tierState(3), step: 3)
        last.cancel()
        storage.open()
        try pipeline.finish()
    }

    @Test func reportsComeInTheOrderOfStepsWhicheverEndsFirst() throws {
        var options = SnapshotOptions()
        options.backPressure = .skip
        options.maximumInFlight = 1
        let pipeline = SnapshotPipeline(store, options: options)
        storage.close()
        let first = pipeline.snapshot(try tierState(1), step: 1)
        let second = pipeline.snapshot(try tierState(2), step: 2)
        // Skipped at once, while the first still waits for the storage.
        #expect(second.wait(upTo: .seconds(60)).map { "\($0)" }?.contains("skipped") == true)
        #expect(pipeline.takeReports().isEmpty)
        storage.open()
        #expect(first.wait(upTo: .seconds(60))?.isCommitted == true)
        pipeline.drain()
        #expect(pipeline.takeReports().map(\.step) == [1, 2])
    }

    @Test(arguments: ["rank-", "manifest"])
    func aDamagedCheckpointOfTheStepIsSetAsideAndTheReportSaysSo(_ name: String) throws {
        let store = CheckpointStore.inMemory()
        for step in [40, 50] { try store.save(tierState(step), step: step, options: tierOptions(step)) }
        try store.damage(name, ofStep: 50) { $0[$0.count - 3] ^= 1 }
        let old = try store.objects(ofStep: 50)
        #expect(try store.resume().loaded()?.step == 40)
        let pipeline = SnapshotPipeline(store)
        pipeline.snapshot(try tierState(7), step: 50)
        try pipeline.finish()
        let report = try #require(pipeline.takeReports().first)
        #expect(report.outcome.isCommitted)
        #expect(report.warnings.map(\.code) == [.alreadyExists] && "\(report.warnings[0])".contains("set-aside-"))
        #expect(try store.load(step: 50) == tierState(7))
        let left = try store.objects(ofStep: 50).values
        #expect(old.values.allSatisfy { left.contains($0) })
    }

    @Test(arguments: [false, true])
    func theSameWithManyRanks(inAPipeline: Bool) throws {
        let store = CheckpointStore.inMemory()
        let mesh = try DeviceMesh(["dp": 3])
        let tensors = [
            PlacedTensor(name: "w", scalarType: .f32, shape: [6, 512], layout: try Layout(mesh, ["dp": .shard(0)]))
        ]
        @Sendable func part(_ rank: Int, _ step: Int) throws -> ShardedState {
            var state = try ShardedState(rank: rank, rankCount: 3, tensors: tensors)
            try state.set(Tensor([Float](repeating: Float(step), count: 1024), [2, 512]), for: "w")
            return state
        }
        try ThreadCommunicator.run(ranks: 3) { communicator in
            let shared = try ShardedStore(store, over: communicator)
            for step in [40, 50] { try shared.save(part(communicator.rank, step), step: step) }
        }
        // In the data of one rank: seen by that rank alone, and only when it is read.
        try store.damage("rank-00002", ofStep: 50) { $0[$0.count - 3] ^= 1 }
        let old = try store.objects(ofStep: 50)
        let notes = try ThreadCommunicator.run(ranks: 3) { communicator -> String? in
            let shared = try ShardedStore(store, over: communicator)
            guard let latest = try store.resume().loaded() else { return nil }
            guard latest.manifest.step == 40, latest.skipped.map(\.step) == [50] else { return nil }
            let options = SaveOptions(replacing: true)
            guard inAPipeline else {
                let saved = try shared.save(part(communicator.rank, 7), step: 50, options: options)
                return communicator.rank == 0 ? saved?.setAside.map { "\($0.location)" } : ""
            }
            let pipeline = SnapshotPipeline(shared)
            pipeline.snapshot(try part(communicator.rank, 7), step: 50, options: options)
            try pipeline.finish()
            return pipeline.takeReports().flatMap(\.warnings).map { "\($0)" }.joined()
        }
        #expect(notes[0]?.contains("set-aside-") == true && notes[1] == "" && notes[2] == "")
        let state = try store.load(step: 50)
        #expect(try state.tensor("w").elements(as: Float.self).allSatisfy { $0 == 7 })
        let left = try store.objects(ofStep: 50).values
        #expect(old.values.allSatisfy { left.contains($0) })
    }

    @Test func aTierWithADamagedCheckpointKeepsItAndGetsItsCopy() throws {
        let (near, far) = (CheckpointStore.inMemory("near"), CheckpointStore.inMemory("far"))
        try far.save(tierState(1), step: 10, options: tierOptions(1))
        try far.damage("manifest", ofStep: 10) { $0[30] ^= 1 }
        let old = try far.objects(ofStep: 10)
        let snapshots = try TieredSnapshots([CheckpointTier("near", store: near), CheckpointTier("far", store: far)])
        snapshots.snapshot(try tierState(2), step: 10)
        try snapshots.finish()
        #expect(try far.load(step: 10) == tierState(2))
        let left = try far.objects(ofStep: 10).values
        #expect(old.values.allSatisfy { left.contains($0) })
        let report = try #require(snapshots.takeReports().first { $0.tier == "far" })
        #expect(report.warnings.count == 1 && "\(report.warnings[0])".contains("set-aside-"))
    }

    @Test func aTierThatFailsForGoodIsNamedAtTheEnd() throws {
        storage.fail(CairnError(.inputOutput, "the server is gone"))
        let snapshots = try TieredSnapshots([
            CheckpointTier("near", store: .inMemory("near")), CheckpointTier("far", store: store),
        ])
        for step in 1...3 { snapshots.snapshot(try tierState(step), step: step) }
        let error = #expect(throws: CairnError.self) { try snapshots.finish() }
        #expect(error?.code == .inputOutput)
        #expect(snapshots.failures.map(\.tier) == ["far"])
        let steps = snapshots.takeReports().map(\.step)
        #expect(steps == steps.sorted())
    }
}
