import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// Restarts that take a damaged checkpoint as its parity gives it before they go on to other tiers and older checkpoints.
@Suite struct ParityRecoveryTests {
    private let near = MemoryStorage()
    private let far = MemoryStorage()

    private func state(_ step: Int) -> TrainingState {
        var state = TrainingState()
        state.set(Tensor((0..<9000).map { Float($0 % 1000 + step) }), for: "weight")
        state.set(.double(Double(step)), for: "loss")
        return state
    }

    private func store(_ storage: any Storage) -> CheckpointStore { CheckpointStore(storage: storage, name: "store") }

    /// Near has steps 1 to 3 with parity, far 2 and 3 without.
    init() throws {
        for step in 1...3 { try store(near).save(state(step), step: step, protection: Samples.options(2)) }
        for step in 2...3 { try store(far).save(state(step), step: step) }
    }

    private func tiers(writingBack: Bool = false) -> [CheckpointTier] {
        [
            CheckpointTier("near", store: store(near)).repairedByParity(writingBack: writingBack),
            CheckpointTier("far", store: store(far)),
        ]
    }

    private func restart(writingBack: Bool = false) throws -> Restart<TrainingState> {
        try #require(try RecoveryOrder(tiers(writingBack: writingBack)).load())
    }

    private func rankFile(_ storage: MemoryStorage, step: Int) throws -> String {
        try #require(try storage.list(StepName.prefix(step) + "rank").first).key
    }

    private func change(_ key: String, _ storage: MemoryStorage, _ body: (inout [UInt8]) -> Void) throws {
        var bytes = try storage.readAll(key)
        body(&bytes)
        try storage.publish(bytes, as: key)
    }

    /// Bytes in every column of the file are wrong, and one bit, within parity.
    private func damage(step: Int, isBeyond: Bool = false) throws {
        try change(rankFile(near, step: step), near) { bytes in
            if isBeyond { for place in bytes.indices { bytes[place] ^= 0x11 } } else { bytes[bytes.count - 9] ^= 1 }
        }
    }

    private func expect(_ restart: Restart<TrainingState>, _ tier: String, _ step: Int, _ decisions: [String]) {
        #expect(restart.tier == tier && restart.step == step && restart.state == state(step))
        let found = restart.decisions.map { decision in
            "\(decision.tier) \(decision.step ?? -1) \(decision.outcome.rawValue)" + (decision.repair == nil ? "" : " by parity")
        }
        #expect(found == decisions)
    }

    @Test func damageWithinParityIsRepairedInMemoryAndNothingIsWritten() throws {
        try damage(step: 3)
        let before = try Samples.contents(of: near)
        let restart = try restart()
        expect(restart, "near", 3, ["near 3 damaged", "near 3 loaded by parity"])
        #expect(restart.decisions.first?.error?.code == .corrupted)
        let repair = try #require(restart.decisions.last?.repair)
        #expect(try repair.files == [rankFile(near, step: 3)] && !repair.isWrittenBack && repair.method == "parity")
        #expect(try Samples.contents(of: near) == before)
        #expect("\(try #require(restart.decisions.last))" == "near@3, by parity: loaded")
        // Without parity as a step of the order the next tier is taken, and the checkpoint is marked.
        let plain = RecoveryOrder([CheckpointTier("near", store: store(near)), CheckpointTier("far", store: store(far))])
        expect(try #require(try plain.load()), "far", 3, ["near 3 quarantined", "far 3 loaded"])
    }

    @Test func aCheckpointThatLostItsManifestIsACandidateByItsParity() throws {
        try near.delete([StepName.prefix(3) + "manifest.json"])
        expect(try restart(), "near", 3, ["near 3 loaded by parity"])
        try far.delete(far.list("").map(\.key))
        try near.delete(near.list(StepName.prefix(2)).map(\.key).filter { !$0.contains("parity") })
        try near.delete([rankFile(near, step: 3)])
        // All of step 2 is gone but its parity, and the data of step 3; neither is marked, for there is nothing to mark.
        expect(try restart(), "near", 1, ["near 3 damaged by parity", "near 2 damaged by parity", "near 1 loaded"])
        #expect(try near.list("").allSatisfy { !$0.key.contains("quarantine") })
    }

    @Test func beyondParityTheNextTierIsTakenAndThenOlderCheckpoints() throws {
        try damage(step: 3, isBeyond: true)
        expect(try restart(), "far", 3, ["near 3 damaged", "near 3 quarantined by parity", "far 3 loaded"])
        #expect(try store(near).quarantine(ofStep: 3)?.reason.contains("more is lost than parity brings back") == true)
        try far.delete(far.list("").map(\.key))
        try damage(step: 2)
        expect(
            try restart(), "near", 2,
            ["near 3 skipped", "near 3 damaged by parity", "near 2 damaged", "near 2 loaded by parity"])
        try damage(step: 2, isBeyond: true)
        try damage(step: 1, isBeyond: true)
        let error = #expect(throws: CairnError.self) { try RecoveryOrder(tiers()).load() }
        #expect(error?.code == .nothingUsable)
    }

    @Test func whatIsInQuarantineForItsDamageIsRepairedAndWhatIsThereForAnotherReasonIsNot() throws {
        try damage(step: 3)
        let damaged = CairnError(.corrupted, "found by another process")
        for step in 2...3 {
            try store(near).quarantine(step: step, saveID: store(near).open(step: step).manifest.saveID, because: damaged)
        }
        try far.delete(far.list("").map(\.key))
        expect(try restart(), "near", 3, ["near 3 skipped", "near 3 loaded by parity"])
        try near.delete(near.list(StepName.prefix(3)).map(\.key))
        expect(try restart(), "near", 1, ["near 2 skipped", "near 2 skipped by parity", "near 1 loaded"])
    }

    @Test func writingBackMendsTheStoreAndEndsTheQuarantine() throws {
        let whole = try Samples.contents(of: near)
        try damage(step: 3)
        try near.delete([StepName.prefix(3) + "manifest.json"])
        let restart = try restart(writingBack: true)
        expect(restart, "near", 3, ["near 3 loaded by parity"])
        #expect(restart.decisions.last?.repair?.isWrittenBack == true && restart.decisions.last?.repair?.files.count == 2)
        #expect(try Samples.contents(of: near) == whole)
        expect(try self.restart(writingBack: true), "near", 3, ["near 3 loaded"])
    }

    @Test func aStoreThatCannotBeMendedIsStillReadFrom() throws {
        try damage(step: 3)
        let storage = ReadOnlyStorage(near)
        let tier = CheckpointTier("near", store: CheckpointStore(storage: storage, name: "near")).repairedByParity(
            writingBack: true)
        let restart = try #require(try RecoveryOrder([tier]).load())
        expect(restart, "near", 3, ["near 3 damaged", "near 3 loaded by parity"])
        let repair = try #require(restart.decisions.last?.repair)
        #expect(!repair.isWrittenBack && repair.writeBackError?.code == .accessDenied)
    }
}

/// A storage that refuses to be written.
private final class ReadOnlyStorage: Storage {
    private let storage: MemoryStorage

    init(_ storage: MemoryStorage) { self.storage = storage }

    private func refuse(_ key: String) -> CairnError { CairnError(.accessDenied, "read-only", .init(file: key)) }

    func open(_ key: String) throws(CairnError) -> any StorageFile { try storage.open(key) }
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try storage.list(prefix) }
    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter { throw refuse(key) }
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { throw refuse(key) }
    func delete(_ keys: [String]) throws(CairnError) { throw refuse(keys.first ?? "") }
}
