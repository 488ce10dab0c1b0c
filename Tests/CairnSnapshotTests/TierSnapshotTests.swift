import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// Snapshots that go to several tiers.
@Suite struct TierSnapshotTests {
    private let memory = CheckpointStore.inMemory("memory")
    private let disk = CheckpointStore.inMemory("disk")

    private func snapshots(
        _ remote: any Storage = MemoryStorage(), memoryInterval: Int = 1, _ change: (inout TierOptions) -> Void = { _ in }
    ) throws -> TieredSnapshots {
        var options = TierOptions()
        change(&options)
        return try TieredSnapshots(
            [
                CheckpointTier("memory", store: memory, every: memoryInterval, retention: RetentionPolicy(keepLast: 1)),
                CheckpointTier("disk", store: disk, every: 2, retention: RetentionPolicy(keepLast: 2)),
                CheckpointTier("remote", store: CheckpointStore(storage: remote, name: "remote"), every: 4),
            ], tierOptions: options)
    }

    /// The tiers on which it is, in the order of reports, each with how it got there.
    private func places(_ reports: [TierReport]?) -> [String] {
        (reports ?? []).map { "\($0.tier) \($0.outcome)" }.sorted()
    }

    @Test func everyTierGetsItsStepsAndKeepsWhatItsPolicySays() throws {
        let storage = MemoryStorage()
        let snapshots = try snapshots(storage)
        #expect(snapshots.due(1) == ["memory"] && snapshots.due(4) == ["memory", "disk", "remote"])
        for step in 1...8 {
            let taken = try #require(snapshots.snapshot(try tierState(step), step: step))
            #expect(taken.tier == "memory")
            let reports = taken.wait()
            #expect(reports?.count == snapshots.due(step).count)
            #expect(places(reports).first == (step % 2 == 0 ? "disk copied from memory" : "memory drained"))
            #expect(reports?.allSatisfy { $0.saveID == taken.snapshot.saveID } == true)
        }
        #expect(snapshots.drain())
        #expect(try memory.steps() == [8])
        #expect(try disk.steps() == [6, 8])
        let remote = CheckpointStore(storage: storage, name: "remote")
        #expect(try remote.steps() == [4, 8])
        for (store, step) in [(memory, 8), (disk, 6), (disk, 8), (remote, 4), (remote, 8)] {
            #expect(try store.load(step: step) == tierState(step))
            #expect(try TimelineFile.read(of: store.open(step: step).manifest, in: store)?.count == 1)
        }
        let reports = snapshots.takeReports()
        #expect(reports.count == 8 + 4 + 2 && reports.allSatisfy { $0.outcome.isThere })
        #expect(reports.filter { $0.copiedByteCount > 0 }.count == 6)
        #expect(snapshots.takeReports().isEmpty)
        #expect(try snapshots.recovery.load()?.tier == "memory")
    }

    @Test func aStepForFartherTiersAloneIsDrainedIntoTheNearestOfThem() throws {
        let snapshots = try snapshots(memoryInterval: 3)
        #expect(snapshots.snapshot(try tierState(1), step: 1) == nil)
        let taken = try #require(snapshots.snapshot(try tierState(4), step: 4))
        #expect(taken.tier == "disk")
        #expect(places(taken.wait()) == ["disk drained", "remote copied from disk"])
    }

    @Test func aSlowTierIsLeftBehindAndSaysSo() throws {
        let remote = DetachableStorage()
        remote.isHeld = true
        let snapshots = try snapshots(remote)
        var taken: [TieredSnapshot] = []
        for step in stride(from: 4, through: 20, by: 4) {
            let snapshot = try #require(snapshots.snapshot(try tierState(step), step: step))
            snapshot.snapshot.wait()
            if step == 4 { remote.awaitHeldCall() }
            taken.append(snapshot)
        }
        // All others have continued; the remote tier holds the first and waits with the last.
        #expect(!snapshots.drain(upTo: .milliseconds(20)))
        let superseded = taken[1...3].map { places($0.wait()).last }
        #expect(
            superseded == [
                "remote superseded by step 12", "remote superseded by step 16", "remote superseded by step 20",
            ])
        remote.isHeld = false
        #expect(snapshots.drain())
        #expect(try CheckpointStore(storage: remote, name: "remote").steps() == [4, 20])
        #expect(try memory.steps() == [20], "what was copied from stayed until then, and no longer")
    }

    @Test func whatIsCopiedIsNotDeletedMeanwhile() throws {
        let remote = DetachableStorage()
        remote.isHeld = true
        let snapshots = try snapshots(remote)
        for step in 4...7 { snapshots.snapshot(try tierState(step), step: step)?.snapshot.wait() }
        #expect(!snapshots.drain(upTo: .milliseconds(20)))
        #expect(try memory.steps().contains(4))
        remote.isHeld = false
        #expect(snapshots.drain())
        #expect(try memory.steps() == [7])
    }

    @Test func aTierThatFailsHarmsNoOtherAndIsBackWhenItWorks() throws {
        let near = DetachableStorage()
        let snapshots = try TieredSnapshots([
            CheckpointTier("near", store: CheckpointStore(storage: near, name: "near")), CheckpointTier("disk", store: disk),
        ])
        func take(_ step: Int) throws -> [String] { places(snapshots.snapshot(try tierState(step), step: step)?.wait()) }
        #expect(try take(1) == ["disk copied from near", "near drained"])
        near.isGone = true
        let failed = try take(2)
        #expect(failed[0].hasPrefix("disk skipped: there is nothing to copy") && failed[1].hasPrefix("near failed: "))
        // From now on the disk gets the snapshot itself.
        let around = try take(3)
        #expect(around[0] == "disk drained" && around[1].contains("the device is gone"))
        near.isGone = false
        #expect(try take(4) == ["disk drained", "near copied from disk"])
        #expect(try take(5) == ["disk copied from near", "near drained"])
        #expect(snapshots.drain())
        #expect(try disk.steps() == [1, 3, 4, 5])
        #expect(try CheckpointStore(storage: near, name: "near").steps() == [1, 4, 5])
    }

    @Test func aFartherTierThatFailsIsReportedAndTheNearOneGoesOn() throws {
        let remote = DetachableStorage()
        let snapshots = try snapshots(remote)
        remote.isGone = true
        let reports = snapshots.snapshot(try tierState(4), step: 4)?.wait()
        #expect(places(reports).prefix(2) == ["disk copied from memory", "memory drained"])
        #expect(places(reports).last?.hasPrefix("remote failed: ") == true)
        remote.isGone = false
        #expect(places(snapshots.snapshot(try tierState(8), step: 8)?.wait()).last == "remote copied from memory")
    }

    @Test func aDamagedCopyIsNotMade() throws {
        let remote = DetachableStorage()
        remote.isHeld = true
        let snapshots = try snapshots(remote)
        snapshots.snapshot(try tierState(4), step: 4)
        remote.awaitHeldCall()
        // This one waits until the first is copied, and is damaged meanwhile.
        let taken = try #require(snapshots.snapshot(try tierState(8), step: 8))
        taken.awaitReports(2)
        try memory.damage("rank-", ofStep: 8) { $0[$0.count - 3] ^= 1 }
        remote.isHeld = false
        let last = taken.wait()?.first { $0.tier == "remote" }
        guard case .failed(let error) = last?.outcome else {
            Issue.record("\(String(describing: last))")
            return
        }
        #expect(error.code == .corrupted)
        #expect(try CheckpointStore(storage: remote, name: "remote").steps() == [4])
    }

    @Test func cancellingGivesUpCopiesThatWaitAndTheOneUnderWay() throws {
        let remote = DetachableStorage()
        remote.isHeld = true
        let snapshots = try snapshots(remote)
        var taken: [TieredSnapshot] = []
        for step in [4, 8] {
            let snapshot = try #require(snapshots.snapshot(try tierState(step), step: step))
            snapshot.awaitReports(2)
            remote.awaitHeldCall()
            taken.append(snapshot)
        }
        snapshots.cancelAll()
        remote.isHeld = false
        for snapshot in taken { #expect(places(snapshot.wait()).last == "remote cancelled") }
        #expect(snapshots.drain())
        #expect(try remote.list("").isEmpty)
        #expect(try memory.steps() == [8])
    }

    @Test func tiersThatMakeNoSenseAreRefused() throws {
        func refuse(_ tiers: [CheckpointTier], _ options: SnapshotOptions = SnapshotOptions()) {
            let error = #expect(throws: CairnError.self) { try TieredSnapshots(tiers, options: options) }
            #expect(error?.code == .invalidArgument)
        }
        refuse([])
        refuse([CheckpointTier("a", store: memory), CheckpointTier("a", store: disk)])
        refuse([CheckpointTier("a", store: memory, every: 0)])
        var options = SnapshotOptions()
        options.retention = RetentionPolicy(keepLast: 1)
        refuse([CheckpointTier("a", store: memory)], options)
    }

    @Test func theRanksOfAJobShareTiers() throws {
        let (memory, disk) = (memory, disk)
        let mesh = try DeviceMesh(["dp": 2])
        let tensor = PlacedTensor(
            name: "w", scalarType: .f32, shape: [8, 300], layout: try Layout(mesh, ["dp": .shard(0)]))
        let counts = try ThreadCommunicator.run(ranks: 2) { communicator in
            let snapshots = try TieredSnapshots(
                [
                    CheckpointTier("memory", store: memory, retention: RetentionPolicy(keepLast: 1)),
                    CheckpointTier("disk", store: disk, every: 2),
                ], over: communicator)
            for step in 1...4 {
                if step == 4 { snapshots.avoid(["memory"]) }
                var state = try ShardedState(rank: communicator.rank, rankCount: 2, tensors: [tensor])
                let elements = (0..<1200).map { Float(step * 10_000 + communicator.rank * 1200 + $0) }
                try state.set(Tensor(elements, [4, 300]), for: "w")
                let taken = snapshots.snapshot(state, step: step)
                #expect(taken?.tier == (step == 4 ? "disk" : "memory"))
                taken?.wait()
            }
            #expect(snapshots.drain())
            return snapshots.takeReports().filter { $0.outcome.isThere }.count
        }
        #expect(counts == [6, 4])
        #expect(try memory.steps() == [4] && disk.steps() == [2, 4])
        for (store, step) in [(memory, 4), (disk, 2), (disk, 4)] {
            let whole = try store.load(step: step)
            #expect(try whole.tensor("w").elements(as: Float.self) == (0..<2400).map { Float(step * 10_000 + $0) })
        }
    }
}

extension TieredSnapshot {
    /// Waits until it has ended on so many tiers.
    fileprivate func awaitReports(_ count: Int) {
        while reports.count < count { _ = wait(upTo: .milliseconds(2)) }
    }
}
