import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnLayoutTesting
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// Checkpoints that are written under other layouts, without the ranks.
@Suite struct ResharderTests {
    @Test func whatIsWrittenIsWhatTheRanksWouldHaveSaved() throws {
        let first = UInt64.random(in: 0...UInt64.max / 2)
        for seed in first..<first + 150 {
            do {
                try Self.check(seed: seed)
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
        }
    }

    private static func check(seed: UInt64) throws {
        var layouts = RandomLayouts(seed: seed)
        let saved = try RandomState(&layouts, rankCount: layouts.random.pick(1...6))
        let wanted = try RandomState(of: saved, &layouts, rankCount: layouts.random.pick(1...6))
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try save(saved, in: store, step: 1)
        var options = Resharder.Options()
        options.save.chunkByteCount = 4096
        // Small buffers and few files, so that slabs and batches end everywhere.
        options.bufferByteCount = 1 << 16
        options.openFileLimit = layouts.random.pick(1...7)
        let isCompressed = layouts.random.pick(0...1) == 1
        if isCompressed { options.save.compression = .zstd(level: 1) }
        let source = try store.open(step: 1)
        let readers: [any CheckpointReader] = [source, RegionReader(source)]
        for (offset, reader) in readers.enumerated() {
            let manifest = try Resharder(reading: reader, tensors: wanted.tensors)
                .write(to: store, step: 2 + offset, options: options)
            try require(manifest.files.count == wanted.rankCount, "a file for each rank")
            try require(manifest.lineage?.operation == "reshard", "the lineage")
        }
        // The same state saved by ranks under the wanted layouts.
        try save(wanted, in: store, step: 4)
        let expected = try store.open(step: 4)
        for step in [2, 3] {
            let written = try store.open(step: step)
            let report = try written.verify()
            try require(report.isValid, "verification: \(report.damages.map(\.error))")
            try require(written.manifest.tensors == expected.manifest.tensors, "the tensors of the manifest")
            for (one, other) in zip(written.manifest.files, expected.manifest.files) where !isCompressed {
                try require(
                    one.byteCount - one.headerByteCount == other.byteCount - other.headerByteCount,
                    "the data of rank \(one.rank)")
            }
            let whole = try TrainingState(reading: written)
            for (name, tensor) in saved.whole {
                try require(try whole.tensor(name) == tensor, "the whole of \(name), step \(step)")
            }
        }
    }

    /// With fewer open files than ranks the source is gone through several times, but no byte of it read again.
    @Test func eachBatchOfFilesReadsOnlyWhatItWrites() throws {
        let storage = RecordingStorage(MemoryStorage())
        let store = CheckpointStore(storage: storage, name: "memory")
        var state = TrainingState()
        for name in ["v", "w"] { state.set(try Tensor(zeros: .f32, [128, 256]), for: name) }
        var options = Resharder.Options()
        options.save.chunkByteCount = 4096
        options.bufferByteCount = 1 << 16
        options.openFileLimit = 1
        try store.save(state, step: 1, options: options.save)
        let layout = try Layout(DeviceMesh(["dp": 8]), ["dp": .shard(0)])
        let reader = try store.open(step: 1)
        _ = try reader.verify(deep: false)
        storage.forget()
        try Resharder(
            reading: reader,
            tensors: ["v", "w"].map { PlacedTensor(name: $0, scalarType: .f32, shape: [128, 256], layout: layout) }
        ).write(to: store, step: 2, options: options)
        let data = storage.reads.filter { $0.key.hasPrefix("step-00000001/") && $0.key.hasSuffix(".safetensors") }
        #expect(data.reduce(0) { $0 + $1.range.count } == 2 * 128 * 256 * 4)
    }

    private static func save(_ state: RandomState, in store: CheckpointStore, step: Int) throws {
        _ = try ThreadCommunicator.run(ranks: state.rankCount) { communicator in
            var options = SaveOptions()
            options.chunkByteCount = 4096
            options.concurrency = 1
            return try ShardedStore(store, over: communicator)
                .save(state.state(ofRank: communicator.rank), step: step, options: options)
        }
    }

    private static func require(_ condition: Bool, _ what: String) throws {
        if !condition { throw CairnError(.mismatch, what) }
    }

    private func sample() throws -> (CheckpointStore, CairnReader) {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var state = TrainingState()
        state.set(try Tensor((0..<24).map { Float($0) }, [6, 4]), for: "w")
        state.set(try Tensor([1, 2, 3] as [Float], [3]), for: "b")
        state.tie("head", to: "w")
        state.set(.integer(7), for: "step")
        try store.save(state, step: 1)
        return (store, try store.open(step: 1))
    }

    @Test func valuesTiesAndParentComeAlongAndTypesAreConverted() throws {
        let (store, reader) = try sample()
        let mesh = try DeviceMesh(["tp": 2])
        let tensors = [
            PlacedTensor(name: "w", scalarType: .bf16, shape: [6, 4], layout: try Layout(mesh, ["tp": .shard(1)])),
            PlacedTensor(name: "b", scalarType: .f32, shape: [3], layout: .replicated(on: mesh)),
        ]
        let manifest = try Resharder(reading: reader, tensors: tensors).write(to: store, step: 2)
        #expect(manifest.lineage?.parents.first?.step == 1)
        #expect(manifest.lineage?.parents.first?.saveID == reader.manifest.saveID)
        let written = try store.open(step: 2)
        #expect(written.values == reader.values)
        #expect(try written.description(of: "head").tiedTo == "w")
        #expect(try written.tensor("w") == reader.tensor("w").converted(to: .bf16))
        #expect(try written.tensor("b") == reader.tensor("b"))
    }

    @Test func termsAreWrittenFromAStack() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var state = TrainingState()
        let stack = try Tensor((0..<24).map { Float($0) }, [2, 3, 4])
        state.set(stack, for: "g")
        try store.save(state, step: 1)
        let mesh = try DeviceMesh(["dp": 2, "tp": 2])
        let layout = try Layout(mesh, ["dp": .partial(.sum), "tp": .shard(1)])
        let tensor = PlacedTensor(name: "g", scalarType: .f32, shape: [3, 4], layout: layout)
        try Resharder(reading: store.open(step: 1), tensors: [tensor]).write(to: store, step: 2)
        let loaded = try ShardedState(reading: store.open(step: 2), rank: 3, tensors: [tensor])
        #expect(try loaded.local("g") == stack.slice(Region(offsets: [1, 0, 2], shape: [1, 3, 2])).reshaped([3, 2]))
    }

    @Test func aReshardThatFailsLeavesNothing() throws {
        struct Stop: Error {}
        let (_, reader) = try sample()
        let mesh = try DeviceMesh(["tp": 3])
        let tensors = [
            PlacedTensor(name: "w", scalarType: .f32, shape: [6, 4], layout: try Layout(mesh, ["tp": .shard(0)])),
            PlacedTensor(name: "b", scalarType: .f32, shape: [3], layout: .replicated(on: mesh)),
        ]
        for limit in [1, 3] {
            let target = CheckpointStore(storage: MemoryStorage(), name: "target")
            var options = Resharder.Options()
            options.openFileLimit = limit
            options.save.concurrency = 1
            options.save.progress = { count in if count == 12 { throw Stop() } }
            #expect(throws: Stop.self) {
                try Resharder(reading: reader, tensors: tensors).write(to: target, step: 2, options: options)
            }
            #expect(try target.storage.list("").isEmpty)
        }
    }

    @Test func whatDoesNotFitIsNamed() throws {
        let (_, reader) = try sample()
        let mesh = try DeviceMesh(["tp": 2])
        func error(_ tensor: PlacedTensor) -> CairnError? {
            do {
                _ = try Resharder(reading: reader, tensors: [tensor])
                return nil
            } catch { return error }
        }
        let replicated = Layout.replicated(on: mesh)
        let missing = error(PlacedTensor(name: "v", scalarType: .f32, shape: [6, 4], layout: replicated))
        #expect(missing?.code == .notFound && missing?.context.tensor == "v")
        let shape = error(PlacedTensor(name: "w", scalarType: .f32, shape: [4, 6], layout: replicated))
        #expect(shape?.code == .mismatch && shape?.context.tensor == "w")
        #expect(shape?.context.expected == "[4, 6]" && shape?.context.found == "[6, 4]")
        let uneven = error(
            PlacedTensor(
                name: "b", scalarType: .f32, shape: [3], layout: try Layout(mesh, ["tp": .shard(0)])))
        #expect(uneven?.context.tensor == "b" && uneven?.message.contains("\"tp\"") == true)
    }
}
