import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// A state with every kind of entry.
func sampleState(seed: Int = 1, scale: Int = 1) throws -> TrainingState {
    var state = TrainingState()
    var generator = SeededGenerator(seed: UInt64(seed))
    func random(_ type: ScalarType, _ shape: Shape) throws -> Tensor {
        try Tensor(type, shape) { bytes in
            bytes.withUnsafeMutableBytes { for index in $0.indices { $0[index] = UInt8.random(in: 0...255, using: &generator) } }
        }
    }
    state.set(try random(.f32, [17 * scale, 31]), for: "model.embedding.weight")
    state.set(try random(.bf16, [64 * scale, 3, 5]), for: "model.layers.0.weight")
    state.set(try random(.f4, [8, 6]), for: "packed")
    state.set(try random(.bool, [7]), for: "mask")
    state.set(try random(.i64, .scalar), for: "count")
    state.set(try random(.f64, [0, 4]), for: "empty")
    state.set(try random(.u8, [5000 * scale]), for: "ünïcödé.键")
    state.tie("model.head.weight", to: "model.embedding.weight")
    state.set(.integer(.min), for: "step")
    state.set(.unsigned(.max), for: "generator.key")
    state.set(.double(-0.0), for: "learning_rate")
    state.set(.double(Double(bitPattern: 0x7FF8_0000_0000_1234)), for: "nan")
    state.set(.dictionary(["$odd": .list([.null, .bool(true), .bytes([0, 255])]), "plain": .string("π\n\"")]), for: "nested")
    return state
}

@Suite struct CheckpointStoreTests {
    private func store() -> CheckpointStore { CheckpointStore(storage: MemoryStorage(), name: "memory") }

    private func options(_ change: (inout SaveOptions) -> Void) -> SaveOptions {
        var options = SaveOptions()
        options.chunkByteCount = 4096
        change(&options)
        return options
    }

    @Test(arguments: [Compression.none, .fast, .zstd(level: 1), .zstd(level: 9)])
    func whatIsSavedIsLoadedBitForBit(compression: Compression) throws {
        let store = store()
        let state = try sampleState()
        try store.save(
            state, step: 7,
            options: options {
                $0.compression = compression; $0.metrics = ["loss": .nan]
            })
        #expect(try store.load(step: 7) == state)
        let reader = try store.open(step: 7)
        #expect(try reader.verify().isValid)
        #expect(reader.manifest.metrics["loss"]?.isNaN == true)
        #expect(reader.tensors.map(\.name) == reader.tensors.map(\.name).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) })
    }

    @Test(arguments: [Compression.fast, .zstd()])
    func compressibleTensorsGetSmallerAndStayExact(compression: Compression) throws {
        let store = store()
        var state = TrainingState()
        state.set(Tensor((0..<100_000).map { Float($0) / 1000 }), for: "ramp")
        state.set(try sampleState().tensor("ünïcödé.键"), for: "noise")
        try store.save(state, step: 1, options: options { $0.compression = compression })
        #expect(try store.load(step: 1) == state)
        let manifest = try store.open(step: 1).manifest
        #expect(manifest.byteCount < state.byteCount * (compression == .fast ? 4 : 2) / (compression == .fast ? 5 : 3))
        let part = try store.open(step: 1)
        var piece = try Tensor(zeros: .f32, [10])
        var span = piece.mutableBytes
        try part.read("ramp", region: Region(offsets: [54_321], shape: [10]), into: &span)
        #expect(try piece.elements(as: Float.self) == (54_321..<54_331).map { Float($0) / 1000 })
    }

    @Test func fragmentsOfWholePagesBeginAtPages() throws {
        let store = store()
        var state = try sampleState()
        for (index, type) in [ScalarType.u8, .bf16, .f32, .f64].enumerated() {
            state.set(try Tensor(zeros: type, [4096, index + 1]), for: "pages.\(index)")
            state.set(try Tensor(zeros: type, [4097, index + 1]), for: "odd.\(index)")
        }
        try store.save(state, step: 1)
        #expect(try store.load(step: 1) == state)
        let header = try SafeTensorsHeader.read(from: store.storage.open(store.rankKey(step: 1)))
        let whole = header.entries.filter { $0.byteRange.count % 4096 == 0 }
        #expect(whole.count >= 5)
        for entry in whole { #expect((header.dataStart + entry.byteRange.lowerBound) % 4096 == 0, "\(entry.name)") }
        for entry in header.entries {
            #expect(entry.byteRange.lowerBound % (entry.scalarType.byteWidth ?? 1) == 0, "\(entry.name)")
        }
    }

    @Test func rankFilesAreAlignedSafetensorsFiles() throws {
        let store = store()
        try store.save(sampleState(), step: 3)
        let file = try store.storage.open(store.rankKey(step: 3))
        let header = try SafeTensorsHeader.read(from: file)
        #expect(header.dataStart % 4096 == 0)
        #expect(Set(header.entries.map(\.name)).isSuperset(of: ["packed", "mask", "count", "empty"]))
        for entry in header.entries {
            #expect(entry.byteRange.lowerBound % (entry.scalarType.byteWidth ?? 1) == 0, "\(entry.name)")
        }
    }

    @Test func severalRanksSaveOneCheckpointAndAnyRegionReadsBack() throws {
        let store = store()
        let whole = try Tensor((0..<240).map { Int32($0) }, [12, 20])
        let session = try store.beginSave(step: 5, rankCount: 4, options: options { _ in })
        try session.setGlobal(values: [NamedValue(name: "step", value: .integer(5))])
        try ThreadPool.shared.forEach(4) { rank in
            let region = try Region(offsets: [rank / 2 * 6, rank % 2 * 10], shape: [6, 10])
            let fragment = try TensorFragment(
                name: "w", globalShape: whole.shape, region: region, tensor: whole.copy(of: region))
            try session.write(rank: rank, fragments: [fragment], values: [NamedValue(name: "rank", value: .integer(Int64(rank)))])
        }
        try session.commit()
        let reader = try store.open(step: 5)
        #expect(try reader.tensor("w") == whole)
        #expect(try reader.values(ofRank: 3) == [NamedValue(name: "rank", value: 3)])
        for (offsets, extents) in [([0, 0], [12, 1]), ([5, 9], [2, 2]), ([3, 3], [9, 17]), ([11, 19], [1, 1])] {
            let region = try Region(offsets: offsets, shape: Shape(extents))
            var part = try Tensor(zeros: .i32, region.shape)
            var span = part.mutableBytes
            try reader.read("w", region: region, into: &span)
            #expect(try part == whole.copy(of: region))
            #expect(try reader.tensor("w", region: region) == part)
        }
        // Refused before there is memory for it.
        let outside = try Region(offsets: [0, 0], shape: [1 << 31, 1 << 31])
        #expect(#expect(throws: CairnError.self) { try reader.tensor("w", region: outside) }?.code == .mismatch)
        #expect(try reader.verify().isValid)
    }

    @Test func aMissingRankOrAHoleOrAnOverlapMeansNoCommit() throws {
        let store = store()
        let row = Tensor([1, 2] as [Float])
        func fragment(_ offset: Int) throws -> TensorFragment {
            try TensorFragment(name: "w", globalShape: [4], region: Region(offsets: [offset], shape: [2]), tensor: row)
        }
        let missing = try store.beginSave(step: 1, rankCount: 2)
        try missing.write(rank: 0, fragments: [fragment(0)])
        #expect { try missing.commit() } throws: {
            ($0 as? CairnError)?.code == .incomplete && ($0 as? CairnError)?.context.rank == 1
        }
        let hole = try store.beginSave(step: 2, rankCount: 1)
        try hole.write(rank: 0, fragments: [fragment(0)])
        #expect { try hole.commit() } throws: {
            ($0 as? CairnError)?.code == .incomplete && ($0 as? CairnError)?.context.tensor == "w"
        }
        let overlap = try store.beginSave(step: 3, rankCount: 2)
        try overlap.write(rank: 0, fragments: [fragment(0), fragment(2)])
        try overlap.write(rank: 1, fragments: [fragment(1)])
        #expect { try overlap.commit() } throws: { ($0 as? CairnError)?.code == .malformed }
        #expect(try store.steps().isEmpty)
    }

    @Test func oneStepIsReplacedOnlyOnRequest() throws {
        let store = store()
        let (old, new) = (try sampleState(seed: 1), try sampleState(seed: 2))
        try store.save(old, step: 1)
        #expect(throws: CairnError.self) { try store.save(new, step: 1) }
        #expect(try store.load(step: 1) == old)
        let reader = try store.open(step: 1)
        try store.save(new, step: 1, options: options { $0.replacing = true })
        #expect(try store.load(step: 1) == new)
        #expect(try store.storage.list("").count == 2)
        _ = reader
    }

    @Test func someNamesCanBeLoadedAndUnknownOnesAreErrors() throws {
        let store = store()
        let state = try sampleState()
        try store.save(state, step: 1)
        var options = LoadOptions()
        options.names = ["model.head.weight", "step"]
        let part = try store.load(step: 1, options: options)
        #expect(part.names == ["model.head.weight", "step"])
        #expect(try part.tensor("model.head.weight") == state.tensor("model.embedding.weight"))
        options.names = ["nothing"]
        #expect { try store.load(step: 1, options: options) } throws: { ($0 as? CairnError)?.code == .notFound }
    }

    @Test func theNewestUsableCheckpointIsFoundPastDamage() throws {
        let store = store()
        let states = try (1...3).map { try sampleState(seed: $0) }
        for step in 1...3 { try store.save(states[step - 1], step: step) }
        func corrupt(_ key: String, at offset: Int) throws {
            var bytes = try store.storage.readAll(key, limit: 1 << 30)
            bytes[offset] ^= 1
            try store.storage.publish(bytes, as: key)
        }
        let file = try store.storage.open(store.rankKey(step: 3))
        try corrupt(store.rankKey(step: 3), at: file.byteCount - 1)
        try corrupt("step-00000002/manifest.json", at: 40)
        #expect(try store.newestUsable().step == 3, "a flipped data bit shows only in depth")
        let loaded = try store.loadLatest()
        #expect(loaded.step == 1)
        #expect(loaded.state == states[0])
        #expect(loaded.skipped.map(\.step) == [3, 2])
        #expect(try store.newestUsable().step == 1, "what a load has found is remembered")
        let damage = try store.open(step: 3).verify().damages
        #expect(damage.count == 1)
        #expect(damage.first?.error.context.tensor != nil)
        #expect(damage.first?.error.context.offset != nil)
    }

    @Test func filesOfTwoSavesAreNeverReadAsOne() throws {
        let store = store()
        try store.save(sampleState(), step: 1)
        try store.save(sampleState(), step: 2)
        let other = try store.storage.readAll(store.rankKey(step: 2), limit: 1 << 30)
        try store.storage.publish(other, as: store.rankKey(step: 1))
        #expect(throws: CairnError.self) { try store.load(step: 1) }
        #expect(try store.open(step: 1).verify().isValid == false)
    }

    @Test func retentionKeepsLastEveryAndBest() throws {
        let store = store()
        let state = try sampleState()
        for step in 1...10 {
            try store.save(state, step: step, options: options { $0.metrics = ["loss": step == 2 ? 0.1 : Double(step)] })
        }
        try store.storage.publish([1, 2, 3], as: "step-00000099/rank-00000.safetensors")
        let policy = RetentionPolicy(keepLast: 2, keepEvery: 4, keepBest: 1)
        let dry = try store.prune(policy, debrisAge: -10, dryRun: true)
        #expect(dry.kept == [2, 4, 8, 9, 10])
        #expect(try store.steps().count == 10)
        let report = try store.prune(policy, debrisAge: -10)
        #expect(report.deleted == [1, 3, 5, 6, 7])
        #expect(report.debris == ["step-00000099/rank-00000.safetensors"])
        #expect(try store.steps() == [2, 4, 8, 9, 10])
        #expect(try store.list().count == 5)
    }

    @Test func retentionNeverLeavesOnlyABrokenCheckpoint() throws {
        let store = store()
        let state = try sampleState()
        for step in 1...3 { try store.save(state, step: step) }
        try store.storage.delete([store.rankKey(step: 3)])
        let report = try store.prune(RetentionPolicy(keepLast: 1))
        #expect(report.kept == [2] && report.deleted == [1])
        #expect(try store.steps() == [2, 3], "what lacks a file neither counts nor goes")
        #expect(try store.loadLatest().step == 2)
    }

    @Test func aStreamedCopyEqualsItsSource() throws {
        let store = store()
        let state = try sampleState(scale: 20)
        try store.save(state, step: 1, options: options { $0.compression = .zstd() })
        for (step, buffer) in [(2, 1), (3, 5000), (4, 1 << 20)] {
            let writer = try CairnWriter(store: store, step: step, options: options { _ in })
            _ = try copyCheckpoint(from: store.open(step: 1), to: writer, bufferByteCount: buffer)
            #expect(try store.load(step: step) == state)
            #expect(try store.open(step: step).verify().isValid)
        }
    }

    @Test func aMappedLoadSharesTheFilesPages() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path + "/run")
        let state = try sampleState()
        try store.save(state, step: 1)
        var options = LoadOptions()
        options.mapped = true
        var mapped = try store.load(step: 1, options: options)
        #expect(mapped == state)
        var tensor = try mapped.tensor("mask")
        #expect(tensor.isUnique() == false)
        var span = tensor.mutableBytes
        span.withUnsafeMutableBytes { $0[0] ^= 1 }
        mapped.set(tensor, for: "mask")
        #expect(try store.load(step: 1) == state)
    }
}
