import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

import CairnKeeper

@Suite struct KeeperSnapshotTests {
    @Test(arguments: [false, true])
    func aRestartGoesOnFromTheKeeperWithoutTheDisk(_ isMapped: Bool) throws {
        let keeper = try TestKeeper()
        let disk = CheckpointStore(storage: MemoryStorage(), name: "disk")
        do {
            let tiers = [
                CheckpointTier("keeper", store: try keeper.store(), retention: RetentionPolicy(keepLast: 1)),
                CheckpointTier("disk", store: disk, every: 5),
            ]
            let snapshots = try TieredSnapshots(tiers)
            for step in 1...7 { snapshots.snapshot(try sampleState(step), step: step) }
            try snapshots.finish()
        }
        let recovery = RecoveryOrder([
            CheckpointTier("keeper", store: try keeper.store()), CheckpointTier("disk", store: disk),
        ])
        var options = LoadOptions()
        options.mapped = isMapped
        let restart = try #require(try recovery.load(options: options))
        #expect(restart.tier == "keeper" && restart.step == 7)
        #expect(restart.state == (try sampleState(7)))
        #expect(keeper.job()?.steps == [7], "retention deletes in the keeper too")
        #expect(try disk.steps() == [5])
    }

    @Test func withoutTheKeeperTheDiskIsTakenAndItIsSaid() throws {
        let keeper = try TestKeeper()
        let disk = CheckpointStore(storage: MemoryStorage(), name: "disk")
        let kept = try keeper.store()
        try disk.save(try sampleState(5), step: 5)
        try kept.save(try sampleState(6), step: 6)
        keeper.keeper.stop()
        let restart = try #require(
            try RecoveryOrder([CheckpointTier("keeper", store: kept), CheckpointTier("disk", store: disk)]).load())
        #expect(restart.step == 5 && restart.tier == "disk")
        #expect(restart.decisions.map(\.outcome) == [.unreachable, .loaded])
    }

    @Test func memoryThatIsFullCostsASnapshotAndNotTheRun() throws {
        let keeper = try TestKeeper(memory: 100 << 10)
        let disk = CheckpointStore(storage: MemoryStorage(), name: "disk")
        let snapshots = try TieredSnapshots([
            CheckpointTier("keeper", store: try keeper.store(), retention: RetentionPolicy(keepLast: 1)),
            CheckpointTier("disk", store: disk),
        ])
        snapshots.snapshot(try sampleState(1), step: 1)
        #expect(snapshots.drain())
        // Too large for what is left, but not for the disk.
        snapshots.snapshot(try sampleState(2, elements: 100_000), step: 2)
        #expect(snapshots.drain())
        let failed = snapshots.takeReports().first { $0.tier == "keeper" && $0.step == 2 }
        guard case .failed(let error) = failed?.outcome else {
            Issue.record("the snapshot did not fail: \(String(describing: failed))")
            return
        }
        #expect(error.code == .noSpace)
        #expect(try keeper.store().steps() == [1])
        // The next one is drained into the disk, and the keeper gets a copy if it can.
        snapshots.snapshot(try sampleState(3), step: 3)
        try snapshots.finish()
        #expect(try disk.load(step: 3) == sampleState(3))
        #expect(try keeper.store().load(step: 3) == sampleState(3))
    }

    @Test func whatTheNewestCheckpointRefersToStaysWithTheLastProcessGone() throws {
        let keeper = try TestKeeper()
        var states: [TrainingState] = []
        do {
            let store = try keeper.store()
            var options = SaveOptions()
            options.reusesUnchanged = true
            for step in 1...3 {
                var state = try sampleState(1)
                state.set(.integer(Int64(step)), for: "step")
                states.append(state)
                try store.save(state, step: step, options: options)
            }
            _ = try store.prune(RetentionPolicy(keepLast: 1), debrisAge: 0)
        }
        // And with the connection what nobody will commit.
        try waitUntil("the connection is gone") { keeper.job()?.connections == 0 }
        let store = try keeper.store()
        #expect(try store.steps() == [3])
        #expect(try store.open(step: 3).manifest.earlier.map(\.step) == [1])
        #expect(try store.load(step: 3) == states[2])
        let directory = try TemporaryDirectory()
        #expect(try keeper.keeper.drain(to: directory.path).allSatisfy { (try? $0.result.get()) == 3 })
        #expect(try CheckpointStore(path: directory.path("job")).load(step: 3) == states[2])
    }

    @Test func whatIsKeptCanBeDrainedToAStore() throws {
        let keeper = try TestKeeper()
        try keeper.store("one").save(try sampleState(3), step: 3)
        try keeper.store("one").save(try sampleState(4), step: 4)
        try keeper.store("two").save(try sampleState(9), step: 9)
        let directory = try TemporaryDirectory()
        let drained = try keeper.keeper.drain(to: directory.path)
        #expect(drained.map(\.job) == ["one", "two"])
        #expect(drained.map { try? $0.result.get() } == [4, 9])
        #expect(try CheckpointStore(path: directory.path("one")).load(step: 4) == sampleState(4))
        #expect(try CheckpointStore(path: directory.path("two")).load(step: 9) == sampleState(9))
        // Once more: what is there already is left alone.
        #expect(try keeper.keeper.drain(to: directory.path).allSatisfy { (try? $0.result.get()) != nil })
    }
}
