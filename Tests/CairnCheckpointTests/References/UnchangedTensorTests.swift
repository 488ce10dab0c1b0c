import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// A state of four tensors of which some change from save to save.
struct FrozenSample {
    var versions = [0, 0, 0, 0]

    static let names = ["embedding", "frozen", "head", "adapter"]
    private static let counts = [40_000, 30_000, 5000, 100]

    func state() -> TrainingState {
        var state = TrainingState()
        for (index, name) in Self.names.enumerated() {
            let first = Float(versions[index] * 1000 + index)
            state.set(Tensor((0..<Self.counts[index]).map { first + Float($0) }), for: name)
        }
        state.set(.integer(Int64(versions.reduce(0, +))), for: "progress")
        return state
    }

    static var options: SaveOptions {
        var options = SaveOptions()
        options.reusesUnchanged = true
        options.chunkByteCount = 4096
        return options
    }
}

/// Saves that refer to earlier ones for what has not changed.
@Suite struct UnchangedTensorTests {
    private let storage = MemoryStorage()
    private var store: CheckpointStore { CheckpointStore(storage: storage, name: "run") }

    private func fileByteCount(_ manifest: Manifest) -> Int { manifest.byteCount }

    @Test func onlyWhatHasChangedIsWrittenAndAllIsRead() throws {
        var sample = FrozenSample()
        let first = try store.save(sample.state(), step: 1, options: FrozenSample.options)
        #expect(first.earlier.isEmpty)
        sample.versions[3] = 1
        // Another object knows nothing of the tensors, and compares.
        let second = try store.save(sample.state(), step: 2, options: FrozenSample.options)
        #expect(second.earlier.map(\.step) == [1])
        #expect(second.byteCount < 16 << 10)
        #expect(try store.load(step: 2) == sample.state())
        let report = try store.open(step: 2).verify(deep: true)
        #expect(report.isValid)
        #expect(report.fileCount == 2)
        var part = [UInt8](repeating: 0, count: 400)
        var span = part.mutableSpan
        var bytes = span.mutableBytes
        try store.open(step: 2).read("frozen", region: Region(offsets: [1000], shape: [100]), into: &bytes)
        let expected = (0..<100).map { Float(1 + 1000 + $0) }
        #expect(part.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } == expected)
    }

    @Test func aReferenceLeadsToTheFileThatHasTheBytesHoweverManySavesLieBetween() throws {
        var sample = FrozenSample()
        let store = store
        for step in 1...5 {
            sample.versions[3] = step
            try store.save(sample.state(), step: step, options: FrozenSample.options)
        }
        let manifest = try store.open(step: 5).manifest
        #expect(manifest.earlier.map(\.step) == [1])
        // Nothing but the first and the last is needed.
        _ = try store.prune(RetentionPolicy(keepLast: 1), debrisAge: 0)
        #expect(try store.steps() == [5])
        #expect(try store.load(step: 5) == sample.state())
        #expect(try storage.list("step-").map(\.key).filter { $0.hasSuffix(".safetensors") }.count == 2)
    }

    @Test(arguments: [Compression.none, .fast, .zstd()])
    func oneBitThatDiffersIsWritten(_ compression: Compression) throws {
        var options = FrozenSample.options
        options.compression = compression
        let sample = FrozenSample()
        try store.save(sample.state(), step: 1, options: options)
        var changed = sample.state()
        var tensor = try changed.tensor("embedding")
        var bytes = tensor.mutableBytes
        bytes.storeBytes(
            of: bytes.bytes.unsafeLoad(fromByteOffset: 120_001, as: UInt8.self) ^ 1, toByteOffset: 120_001, as: UInt8.self)
        changed.set(tensor, for: "embedding")
        let second = try store.save(changed, step: 2, options: options)
        #expect(try store.load(step: 2) == changed)
        #expect(try store.load(step: 1) == sample.state())
        // Less than half of the first file would be needed.
        #expect(second.earlier.isEmpty)
    }

    @Test func whatTheCallerHasNotTouchedIsNotRead() throws {
        let counting = CountingStorage(MemoryStorage())
        let store = CheckpointStore(storage: counting, name: "run")
        var state = FrozenSample().state()
        try store.save(state, step: 1, options: FrozenSample.options)
        state.set(Tensor([Float](repeating: 3, count: 100)), for: "adapter")
        counting.reset()
        let second = try store.save(state, step: 2, options: FrozenSample.options)
        #expect(second.earlier.count == 1)
        // Manifests and headers.
        #expect(counting.reads.byteCount < 64 << 10)
        #expect(try store.load(step: 2) == state)
    }

    @Test func aTensorThatIsWrittenInPlaceIsNoticed() throws {
        let store = store
        var state = FrozenSample().state()
        try store.save(state, step: 1, options: FrozenSample.options)
        var head = try state.tensor("head")
        state.set(Tensor([Float](repeating: 0, count: 1)), for: "head")
        // The only reference now, so that this writes into the memory that was saved.
        head.rewrite(as: Float.self) { old, new in for index in old.indices { new[index] = old[index] + 1 } }
        state.set(head, for: "head")
        let second = try store.save(state, step: 2, options: FrozenSample.options)
        #expect(second.earlier.count == 1)
        #expect(try store.load(step: 2) == state)
    }

    @Test func aDamagedFileIsNotReferredTo() throws {
        let sample = FrozenSample()
        let first = try store.save(sample.state(), step: 1, options: FrozenSample.options)
        let key = "step-00000001/" + first.files[0].name
        var bytes = try storage.readAll(key)
        bytes[first.files[0].headerByteCount + 100] ^= 1
        try storage.publish(bytes, as: key)
        let second = try store.save(sample.state(), step: 2, options: FrozenSample.options)
        #expect(try store.load(step: 2) == sample.state())
        #expect(try store.open(step: 2).verify(deep: true).isValid)
        #expect(second.byteCount > 0)
    }

    @Test func aPackedCheckpointRefersToNothing() throws {
        var sample = FrozenSample()
        try store.save(sample.state(), step: 1, options: FrozenSample.options)
        sample.versions[3] = 1
        var options = FrozenSample.options
        options.metrics = ["loss": 2]
        let second = try store.save(sample.state(), step: 2, options: options)
        let packed = try store.pack(step: 2)
        #expect(packed.earlier.isEmpty)
        #expect(packed.saveID != second.saveID)
        #expect(packed.metrics == second.metrics)
        #expect(packed.time == second.time)
        try store.delete(step: 1)
        #expect(try store.load(step: 2) == sample.state())
        #expect(try store.pack(step: 2) == packed)
    }

    @Test func aLostManifestComesBackByteForByte() throws {
        var sample = FrozenSample()
        try store.save(sample.state(), step: 1, options: FrozenSample.options)
        sample.versions[3] = 1
        try store.save(sample.state(), step: 2, options: FrozenSample.options)
        let key = "step-00000002/manifest.json"
        let before = try storage.readAll(key)
        try storage.delete([key])
        try store.rebuildManifest(step: 2)
        #expect(try storage.readAll(key) == before)
        #expect(try store.load(step: 2) == sample.state())
    }

    @Test func aCopyBringsAlongWhatItRefersTo() throws {
        var sample = FrozenSample()
        try store.save(sample.state(), step: 1, options: FrozenSample.options)
        for step in 2...3 {
            sample.versions[3] = step
            try store.save(sample.state(), step: step, options: FrozenSample.options)
        }
        let target = CheckpointStore(storage: MemoryStorage(), name: "other")
        try store.replicate(step: 2, to: target)
        try store.replicate(step: 3, to: target)
        #expect(try target.load(step: 3) == sample.state())
        #expect(try target.steps() == [2, 3])
        #expect(try target.open(step: 3).verify(deep: true).isValid)
        let rows = try target.list()
        guard case .referenced? = rows.first?.state else { Issue.record("\(rows)"); return }
        // No pin is left.
        #expect(try target.storage.list("step-").allSatisfy { !$0.key.hasSuffix(".pin") })
    }

    @Test func aMissingEarlierFileIsNamed() throws {
        var sample = FrozenSample()
        let first = try store.save(sample.state(), step: 1, options: FrozenSample.options)
        sample.versions[3] = 1
        try store.save(sample.state(), step: 2, options: FrozenSample.options)
        try storage.delete(["step-00000001/" + first.files[0].name])
        let error = refusal { _ = try store.load(step: 2) }
        #expect(error?.context.file?.contains("step-00000001/") == true, "\(String(describing: error))")
        #expect(try store.newestUsable().step == nil)
    }

    @Test func ranksReferEachToTheirOwn() throws {
        let store = store
        for (step, seed) in [(1, 1), (2, 1), (3, 2)] {
            for error in try ShardedSample.outcomes({ communicator in
                var options = repeatableOptions(step)
                options.reusesUnchanged = true
                try ShardedStore(store, over: communicator)
                    .save(ShardedSample(seed: seed).part(ofRank: communicator.rank), step: step, options: options)
            }) {
                if let error { throw error }
            }
            #expect(try store.load(step: step) == ShardedSample(seed: seed).whole())
            #expect(try store.open(step: step).verify(deep: true).isValid)
        }
        #expect(try store.open(step: 2).manifest.earlier.map(\.file.rank) == [0, 1])
        #expect(try store.open(step: 3).manifest.earlier.isEmpty)
        #expect(try storage.list("step-").allSatisfy { !$0.key.hasSuffix(".pin") })
        let sealed = try store.open(step: 2).manifest
        for pieces in [[(0, 9)], [(0, 0)], [(5, 2)], [(1, 3), (0, 2)], [(0, 2), (0, 3)]] {
            var bad = sealed
            bad.tensors[0].elsewhere = pieces.map { .init(rank: $0.0, file: $0.1) }
            #expect(refusal { _ = try Manifest(parsing: bad.encoded(), file: "manifest.json") } != nil, "\(pieces)")
        }
        let before = try storage.readAll("step-00000002/manifest.json")
        try storage.delete(["step-00000002/manifest.json"])
        try store.rebuildManifest(step: 2)
        #expect(try storage.readAll("step-00000002/manifest.json") == before)
        #expect(try store.pack(step: 2).layouts.count == 2)
        #expect(try store.load(step: 2) == ShardedSample(seed: 1).whole())
    }

    @Test func aSealedManifestWithImpossibleReferencesIsRefused() throws {
        var sample = FrozenSample()
        try store.save(sample.state(), step: 1, options: FrozenSample.options)
        sample.versions[3] = 1
        let manifest = try store.save(sample.state(), step: 2, options: FrozenSample.options)
        func refuses(_ change: (inout Manifest) -> Void) -> Bool {
            var bad = manifest
            change(&bad)
            return refusal { _ = try Manifest(parsing: bad.encoded(), file: "manifest.json") } != nil
        }
        #expect(!refuses { _ in })
        #expect(refuses { $0.earlier.append($0.earlier[0]) })
        #expect(refuses { $0.earlier[0].rankCount = 0 })
        #expect(refuses { $0.earlier[0].saveID = $0.saveID })
        #expect(refuses { $0.earlier[0].file.name = "../x" })
        #expect(refuses { $0.earlier = [] })
        #expect(refuses { $0.earlier[0].file.headerByteCount = 1 })
    }
}
