import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import Synchronization
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Restarts over tiers of which some hold damaged checkpoints or cannot be reached.
@Suite struct TierRecoveryTests {
    private let near = CheckpointStore.inMemory("near")
    private let far = CheckpointStore.inMemory("far")
    private let remote = DetachableStorage()

    /// Near has steps 30, 40, 50; far 20, 40; the remote one 10, 40. Each state is its step.
    init() throws {
        for step in [30, 40, 50] { try near.save(tierState(step), step: step, options: tierOptions(step)) }
        for step in [20, 40] { try saveTierState(tierState(step), step: step, ranks: 2, in: far, tierOptions(step)) }
        let third = CheckpointStore(storage: remote, name: "remote")
        for step in [10, 40] { try third.save(tierState(step), step: step, options: tierOptions(step)) }
    }

    private var recovery: RecoveryOrder {
        RecoveryOrder([
            CheckpointTier("near", store: near), CheckpointTier("far", store: far),
            CheckpointTier("remote", store: CheckpointStore(storage: remote, name: "remote")),
        ])
    }

    /// Loads and checks step, tier and how each candidate was classified.
    private func expect(_ tier: String, _ step: Int, _ outcomes: [String], _ recovery: RecoveryOrder) throws {
        let restart = try #require(try recovery.load(options: tierLoad))
        #expect(restart.tier == tier && restart.step == step)
        #expect(try restart.state == tierState(step))
        let found = restart.decisions.map { "\($0.tier) \($0.step.map(String.init) ?? "-") \($0.outcome.rawValue)" }
        #expect(found == outcomes)
        #expect(restart.decisions.allSatisfy { ($0.error == nil) == ($0.outcome == .loaded) && $0.seconds >= 0 })
    }

    @Test func theNewestIsTakenAndOfOneStepTheNearest() throws {
        try expect("near", 50, ["near 50 loaded"], recovery)
        try near.delete(step: 50)
        try expect("near", 40, ["near 40 loaded"], recovery)
        try near.delete(step: 40)
        try expect("far", 40, ["far 40 loaded"], recovery)
    }

    @Test func damageIsQuarantinedAndTheNextCandidateTaken() throws {
        try near.damage("rank-", ofStep: 50) { $0[$0.count - 3] ^= 1 }
        try near.damage("manifest", ofStep: 40) { $0.removeLast(9) }
        let lost = try #require(try far.storage.list("step-00000040/rank-00001").first)
        try far.storage.delete([lost.key])
        let seen = Monitor<[String]>([])
        var recovery = recovery
        recovery.observer = { decision in seen.change { $0.append(decision.description) } }
        try expect(
            "remote", 40,
            ["near 50 quarantined", "near 40 quarantined", "far 40 quarantined", "remote 40 loaded"], recovery)
        #expect(seen.read(\.count) == 4)
        #expect(seen.read { $0[0] }.contains("near@50: quarantined: "))

        let first = try #require(try near.quarantine(ofStep: 50))
        #expect(try first.saveID == near.open(step: 50).manifest.saveID)
        #expect(first.reason.contains("checksum") && first.time > 0)
        #expect(try near.quarantine(ofStep: 40)?.saveID == nil)
        #expect(try far.quarantine(ofStep: 40)?.reason.contains("rank-00001") == true)

        // Never looked at again, not even once they are whole.
        try expect(
            "remote", 40,
            ["near 50 skipped", "near 40 skipped", "far 40 skipped", "remote 40 loaded"], self.recovery)
        try expect(
            "near", 30, ["near 50 skipped", "near 40 skipped", "near 30 loaded"],
            RecoveryOrder([CheckpointTier("near", store: near)]))
        #expect(try near.loadLatest().step == 30)
        #expect(try near.loadLatest().skipped.map(\.step) == [50, 40])
    }

    @Test func quarantineCanBeForbidden() throws {
        try near.damage("rank-", ofStep: 50) { $0[$0.count - 3] ^= 1 }
        var recovery = recovery
        recovery.isQuarantining = false
        try expect("near", 40, ["near 50 damaged", "near 40 loaded"], recovery)
        #expect(try near.quarantine(ofStep: 50) == nil)
    }

    @Test func aDiskThatCannotBeReachedIsPassedOverAndNothingHeldAgainstIt() throws {
        try near.delete(step: 50)
        try near.delete(step: 40)
        try far.delete(step: 40)
        remote.isGone = true
        try expect("near", 30, ["remote - unreachable", "near 30 loaded"], recovery)
        remote.isGone = false
        try expect("remote", 40, ["remote 40 loaded"], recovery)
    }

    @Test func aReadThatFailsQuarantinesNothing() throws {
        let disk = SimulatedDisk()
        let broken = CheckpointStore(tier: disk)
        try broken.save(tierState(60), step: 60, options: tierOptions(60))
        try broken.save(tierState(70), step: 70, options: tierOptions(70))
        var unreachable = 0
        for call in 1... {
            let copy = disk.copy()
            copy.inject(.fail(EIO), atCall: call)
            let store = CheckpointStore(tier: copy)
            let recovery = RecoveryOrder([CheckpointTier("disk", store: store), CheckpointTier("near", store: near)])
            let restart = try #require(try recovery.load(options: tierLoad))
            #expect(try restart.state == tierState(restart.step))
            if restart.step != 70 { unreachable += 1 }
            for decision in restart.decisions where decision.outcome != .loaded {
                #expect(decision.outcome == .unreachable, "call \(call): \(decision)")
            }
            #expect(!copy.files.keys.contains { $0.hasSuffix("quarantine.json") }, "call \(call)")
            if copy.callCount < call { break }
        }
        #expect(unreachable > 3)
    }

    @Test func aDiskThatCanOnlyBeReadGivesWhatItHas() throws {
        let disk = SimulatedDisk()
        let store = CheckpointStore(tier: disk)
        for step in [1, 2] { try store.save(tierState(step), step: step, options: tierOptions(step)) }
        try store.damage("rank-", ofStep: 2) { $0[$0.count - 3] ^= 1 }
        disk.inject(.failFromHereOn(EROFS), atCall: disk.callCount + 1)
        try expect("disk", 1, ["disk 2 damaged", "disk 1 loaded"], RecoveryOrder([CheckpointTier("disk", store: store)]))
    }

    @Test func nothingAnywhereIsAFreshStartAndAnythingElseIsNot() throws {
        let empty = CheckpointTier("empty", store: .inMemory("empty"))
        #expect(try RecoveryOrder([empty]).load() == nil)
        remote.isGone = true
        let lost = RecoveryOrder([empty, CheckpointTier("remote", store: CheckpointStore(storage: remote, name: "r"))])
        let error = #expect(throws: CairnError.self) { try lost.load() }
        #expect(error?.code == .inputOutput, "the tier's own error")
        #expect((error?.cause as? RestartFailure)?.decisions.map(\.outcome) == [.unreachable])
        let store = CheckpointStore.inMemory("damaged")
        try store.save(tierState(1), step: 1, options: tierOptions(1))
        try store.damage("rank-", ofStep: 1) { $0.removeLast() }
        let recovery = RecoveryOrder([CheckpointTier("damaged", store: store)])
        for outcome in [RestartDecision.Outcome.quarantined, .skipped] {
            let error = #expect(throws: CairnError.self) { try recovery.load() }
            #expect((error?.cause as? RestartFailure)?.decisions.map(\.outcome) == [outcome])
        }
    }

    @Test func aNameThatNoCheckpointHasIsNoDamage() throws {
        var options = tierLoad
        options.names = ["no such tensor"]
        let error = #expect(throws: CairnError.self) { try recovery.load(options: options) }
        let decisions = (error?.cause as? RestartFailure)?.decisions ?? []
        #expect(decisions.count == 7 && decisions.allSatisfy { $0.outcome == .unusable })
        try expect("near", 50, ["near 50 loaded"], recovery)
    }

    @Test func aMappedLoadIsVerifiedToo() throws {
        try near.damage("rank-", ofStep: 50) { $0[$0.count - 3] ^= 1 }
        var options = tierLoad
        options.mapped = true
        #expect(try recovery.load(options: options)?.decisions.map(\.outcome) == [.quarantined, .loaded])
    }

    @Test func aLoadThatIsStoppedStopsTheRecovery() throws {
        var options = tierLoad
        options.progress = { _ in throw CairnError(.cancelled, "enough") }
        let error = #expect(throws: CairnError.self) { try recovery.load(options: options) }
        #expect(error?.code == .cancelled)
        #expect(try near.quarantine(ofStep: 50) == nil)
    }

    // MARK: What becomes of a quarantine

    private func quarantined() throws -> CheckpointStore {
        let store = CheckpointStore.inMemory("run")
        for step in 1...5 { try store.save(tierState(step), step: step, options: tierOptions(step)) }
        for step in [3, 5] { try store.damage("rank-", ofStep: step) { $0[$0.count - 3] ^= 1 } }
        for step in [3, 5] {
            let saveID = try store.open(step: step).manifest.saveID
            try store.quarantine(step: step, saveID: saveID, because: CairnError(.corrupted, "a chunk is bad"))
        }
        return store
    }

    @Test func retentionNeitherCountsNorDeletesIt() throws {
        let store = try quarantined()
        let report = try store.prune(RetentionPolicy(keepLast: 2), debrisAge: -10)
        #expect(report.kept == [2, 4] && report.deleted == [1] && report.debris.isEmpty)
        #expect(try store.steps() == [2, 3, 4, 5])
        let states = try store.list().map { summary in
            if case .quarantined(let quarantine) = summary.state { return quarantine.reason }
            return "fine"
        }
        #expect(states == ["fine", "a chunk is bad", "fine", "a chunk is bad"])
        try store.delete(step: 5)
        #expect(try store.storage.list("step-00000005/").isEmpty, "deleting takes the marker along")
    }

    @Test func aReplacingSaveACopyAndLiftingEndIt() throws {
        let store = try quarantined()
        try store.save(tierState(50), step: 5, options: tierOptions(50) { $0.replacing = true })
        #expect(try store.quarantine(ofStep: 5) == nil)
        #expect(try store.loadLatest().step == 5)
        let source = CheckpointStore.inMemory("source")
        try source.save(tierState(3), step: 3, options: tierOptions(3))
        try source.replicate(step: 3, to: store)
        #expect(try store.quarantine(ofStep: 3) == nil)
        #expect(try store.load(step: 3) == tierState(3))
        let other = try quarantined()
        try other.liftQuarantine(step: 5)
        #expect(try other.quarantine(ofStep: 5) == nil)
        #expect(try other.list().last?.manifest?.step == 5)
    }

    @Test func aRebuiltManifestEndsItAndAnUnreadableMarkerHolds() throws {
        let store = CheckpointStore.inMemory("run")
        for step in 1...2 { try store.save(tierState(step), step: step, options: tierOptions(step)) }
        try store.damage("manifest", ofStep: 2) { $0[10] ^= 1 }
        let recovery = RecoveryOrder([CheckpointTier("run", store: store)])
        #expect(try recovery.load()?.decisions.map(\.outcome) == [.quarantined, .loaded])
        try store.rebuildManifest(step: 2)
        #expect(try store.quarantine(ofStep: 2) == nil)
        #expect(try recovery.load()?.step == 2)
        try store.storage.publish(Array("nonsense".utf8), as: "step-00000002/quarantine.json")
        #expect(try recovery.load()?.step == 1)
    }
}
