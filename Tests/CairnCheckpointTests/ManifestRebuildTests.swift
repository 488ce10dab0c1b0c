import CairnBase
import CairnCheckpoint
import CairnStorage
import Testing

/// A checkpoint whose manifest is lost is brought back from its rank files, or refused with the reason.
@Suite struct ManifestRebuildTests {
    private let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
    private let key = "step-00000007/manifest.json"

    private func save(_ seed: Int, ranks: Int = 2, _ change: (inout SaveOptions) -> Void = { _ in }) throws {
        var options = repeatableOptions(seed, change)
        options.time = nil
        options.metrics["loss"] = 0.25
        options.lineage = Lineage(operation: "merge", parents: [.init(step: 3, source: "other", coefficient: 0.5)])
        if ranks == 2 {
            try saveInTwoRanks(smallState(seed), step: 7, in: store, options)
        } else {
            try store.save(smallState(seed), step: 7, options: options)
        }
    }

    /// Puts the files of another save into the folder, as an interrupted one leaves them.
    private func leave(_ seed: Int, ranks: Range<Int>) throws {
        let other = CheckpointStore(storage: MemoryStorage(), name: "other")
        try saveInTwoRanks(smallState(seed), step: 7, in: other, repeatableOptions(seed))
        for file in try other.open(step: 7).manifest.files where ranks.contains(file.rank) {
            let key = StepName.prefix(7) + file.name
            try store.storage.publish(other.storage.readAll(key), as: key)
        }
    }

    private func expect(_ code: CairnError.Code, naming file: String? = nil) throws {
        let before = try store.storage.list("").map(\.key)
        #expect { try store.rebuildManifest(step: 7) } throws: { error in
            guard let error = error as? CairnError, error.code == code else { return false }
            return file.map { error.context.file?.contains($0) == true } ?? true
        }
        #expect(try store.storage.list("").map(\.key) == before)
    }

    @Test(arguments: [1, 2], [Compression.none, .fast, .zstd()])
    func aLostManifestComesBackByteForByte(ranks: Int, compression: Compression) throws {
        try save(1, ranks: ranks) { $0.compression = compression }
        let original = try store.storage.readAll(key)
        try store.storage.delete([key])
        #expect(try store.steps().isEmpty)
        let manifest = try store.rebuildManifest(step: 7)
        #expect(manifest.metrics == ["loss": 0.25] && manifest.lineage?.parents.count == 1 && manifest.time > 0)
        #expect(try store.storage.readAll(key) == original)
        #expect(try store.load(step: 7) == smallState(1))
        #expect(try store.open(step: 7).verify(deep: true).isValid)
    }

    @Test func aDamagedManifestIsRebuiltAndAReadableOneIsLeft() throws {
        try save(1)
        let original = try store.storage.readAll(key)
        try expect(.alreadyExists)
        var bytes = original
        bytes[100] ^= 4
        try store.storage.publish(bytes, as: key)
        try store.rebuildManifest(step: 7)
        #expect(try store.storage.readAll(key) == original)
    }

    @Test func aMissingRankFileIsNamed() throws {
        try save(1)
        let missing = try store.rankKey(1, step: 7)
        try store.storage.delete([key, missing])
        try expect(.incomplete, naming: missing)
        try store.storage.delete(store.storage.list("").map(\.key))
        #expect { try store.rebuildManifest(step: 7) } throws: { ($0 as? CairnError)?.code == .notFound }
    }

    @Test func aTornRankFileIsRefused() throws {
        try save(1)
        let torn = try store.rankKey(1, step: 7)
        let bytes = try store.storage.readAll(torn)
        try store.storage.delete([key])
        for cut in [0, 5, 100, 4096, bytes.count - 1] {
            try store.storage.publish(Array(bytes[..<cut]), as: torn)
            try expect(.incomplete, naming: torn)
        }
        try store.storage.publish(bytes.dropLast(40) + [UInt8](repeating: 0, count: 40), as: torn)
        try expect(.corrupted, naming: torn)
    }

    @Test func theFilesOfTwoSavesAreToldApart() throws {
        try save(1)
        let original = try store.storage.readAll(key)
        try store.storage.delete([key])
        try leave(2, ranks: 1..<2)
        try store.rebuildManifest(step: 7)
        #expect(try store.storage.readAll(key) == original)
        try store.storage.delete([key])
        try leave(2, ranks: 0..<2)
        try expect(.invalidArgument)
        let chosen = try #require(repeatableOptions(2).saveID)
        try store.rebuildManifest(step: 7, saveID: chosen)
        #expect(try store.load(step: 7) == smallState(2))
    }
}
