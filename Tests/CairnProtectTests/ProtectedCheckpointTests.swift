import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Checkpoints of a run with parity in their folders.
@Suite struct ProtectedCheckpointTests {
    private func state(_ first: Float) -> TrainingState {
        var state = TrainingState()
        for number in 0..<4 { state.set(Tensor((0..<3000).map { first + Float($0 * number) }), for: "weight.\(number)") }
        state.set(.double(Double(first)), for: "loss")
        return state
    }

    private func store() -> (storage: MemoryStorage, store: CheckpointStore) {
        let storage = MemoryStorage()
        return (storage, CheckpointStore(storage: storage, name: "run"))
    }

    /// Four ranks' files and the manifest, one column each.
    private func saveRanks(_ store: CheckpointStore, step: Int = 7, _ options: SaveOptions = SaveOptions()) throws {
        let session = try store.beginSave(step: step, rankCount: 4, options: options)
        for rank in 0..<4 {
            let bytes = (0..<2000).map { Float($0 + rank) }
            let tensor = Tensor(bytes)
            try session.write(rank: rank, fragments: [TensorFragment(whole: tensor, name: "rank-\(rank)")])
        }
        try session.commit()
    }

    private let prefix = "step-00000007/"

    @Test func anyTwoFilesOfACheckpointComeBackTheManifestToo() throws {
        let (storage, store) = store()
        try saveRanks(store)
        let protection = try store.protect(step: 7, options: Samples.options(2))
        #expect(protection.columnCount == 5)
        let whole = try Samples.contents(of: storage)
        let names = whole.keys.sorted()
        #expect(names.count == 7)
        for (position, first) in names.enumerated() {
            for second in names[position...] where !(first.contains("parity") && second.contains("parity") && first != second) {
                try storage.delete([first, second])
                let repaired = CheckpointStore(storage: RepairedStorage(storage), name: "run")
                #expect(try repaired.steps() == [7])
                #expect(try repaired.open(step: 7).verify(deep: true).isValid)
                #expect(try #require(try store.repair(step: 7, concurrency: 1)).isRepairable)
                #expect(try Samples.contents(of: storage) == whole, "\(first), \(second)")
            }
        }
    }

    @Test func aCheckpointOfOneRankIsCutInRangesAndKeepsItsManifest() throws {
        let (storage, store) = store()
        try store.save(state(1), step: 7, protection: Samples.options(2))
        let protection = try #require(try store.protection(ofStep: 7))
        #expect(protection.columnCount == 8 && protection.columnCount(ofFile: "manifest.json") == 1)
        #expect(protection.saveDigits != nil)
        let whole = try Samples.contents(of: storage)
        try storage.delete([prefix + "manifest.json"])
        #expect(try store.steps().isEmpty)
        #expect(try CheckpointStore(storage: RepairedStorage(storage), name: "run").load(step: 7) == state(1))
        try store.repair(step: 7)
        #expect(try Samples.contents(of: storage) == whole)
        #expect(try store.load(step: 7) == state(1))
    }

    @Test func aDamagedCheckpointIsNotProtected() throws {
        let (storage, store) = store()
        try store.save(state(1), step: 7)
        let key = try #require(try storage.list(prefix + "rank").first).key
        var bytes = try storage.readAll(key)
        bytes[bytes.count - 5] ^= 1
        try storage.publish(bytes, as: key)
        #expect(refusal { try store.protect(step: 7) }?.code == .corrupted)
        #expect(try storage.list(prefix + "parity").isEmpty)
        #expect(refusal { try store.protect(step: 8) }?.code == .notFound)
    }

    @Test func repairEndsAQuarantine() throws {
        let (storage, store) = store()
        try store.save(state(1), step: 7, protection: Samples.options(1))
        let saveID = try store.open(step: 7).manifest.saveID
        let key = try #require(try storage.list(prefix + "rank").first).key
        var bytes = try storage.readAll(key)
        bytes[bytes.count - 5] ^= 1
        try storage.publish(bytes, as: key)
        try store.quarantine(step: 7, saveID: saveID, because: CairnError(.corrupted, "a test"))
        try store.repair(step: 7)
        #expect(try store.quarantine(ofStep: 7) == nil)
        #expect(try store.loadLatest().state == state(1))
        #expect(try store.repair(step: 7)?.isIntact == true)
    }

    @Test func parityGoesWithItsCheckpoint() throws {
        let (storage, store) = store()
        for step in [1, 2, 3] { try store.save(state(Float(step)), step: step, protection: Samples.options(2)) }
        let listed = try store.list()
        // The collector takes none of it.
        #expect(try store.prune(RetentionPolicy(), debrisAge: -1e12).debris.isEmpty)
        #expect(try store.protection(ofStep: 2)?.verify().isIntact == true)
        let report = try store.prune(RetentionPolicy(keepLast: 2), debrisAge: -1e12)
        #expect(report.deleted == [1] && report.freedByteCount == listed[0].byteCount)
        #expect(try storage.list("step-00000001/").isEmpty)
        // A save that replaces it does.
        try store.save(state(9), step: 3, options: SaveOptions(replacing: true))
        #expect(try storage.list("step-00000003/parity").isEmpty)
        #expect(try store.protection(ofStep: 3) == nil && store.repair(step: 3) == nil)
        // A copy has it too.
        let (_, other) = self.store()
        try store.replicate(step: 2, to: other)
        #expect(try other.protection(ofStep: 2)?.verify().isIntact == true)
    }

    @Test func parityKeepsACheckpointThatLostItsManifestFromTheCollector() throws {
        let (storage, store) = store()
        try store.save(state(1), step: 7, protection: Samples.options(1))
        try store.save(state(2), step: 8)
        try storage.delete([prefix + "manifest.json", "step-00000008/manifest.json"])
        let report = try store.prune(RetentionPolicy(), debrisAge: -1e12)
        #expect(report.debris.allSatisfy { $0.hasPrefix("step-00000008/") } && !report.debris.isEmpty)
        // Without parity the rank files bring it back as before.
        try store.repair(step: 7)
        #expect(try store.load(step: 7) == state(1))
    }

    @Test func aLostManifestIsStillRebuiltFromRankFilesAlone() throws {
        let (storage, store) = store()
        try store.save(state(1), step: 7, protection: Samples.options(1))
        let manifest = try storage.readAll(prefix + "manifest.json")
        try storage.delete([prefix + "manifest.json"])
        try store.rebuildManifest(step: 7)
        #expect(try storage.readAll(prefix + "manifest.json") == manifest)
        #expect(try store.protection(ofStep: 7)?.verify().isIntact == true)
    }
}
