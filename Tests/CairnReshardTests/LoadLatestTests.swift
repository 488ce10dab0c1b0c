import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// Ranks that load together fall back past what any of them finds damaged.
@Suite struct LoadLatestTests {
    private static let shape: Shape = [8, 4096]

    /// Steps 1, 2 and 3, saved by four ranks; every element is its step.
    private let storage = MemoryStorage()
    private let store: CheckpointStore

    init() throws {
        let store = CheckpointStore(storage: storage, name: "memory")
        self.store = store
        let mesh = try DeviceMesh(["tp": 4])
        let tensor = PlacedTensor(
            name: "w", scalarType: .f32, shape: Self.shape, layout: try Layout(mesh, ["tp": .shard(0)]))
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
            let shared = try ShardedStore(store, over: communicator)
            for step in 1...3 {
                var state = try ShardedState(rank: communicator.rank, rankCount: 4, tensors: [tensor])
                try state.set(Tensor([Float](repeating: Float(step), count: 2 * 4096), [2, 4096]), for: "w")
                state.values = [NamedValue(name: "step", value: .integer(Int64(step)))]
                var options = SaveOptions()
                options.chunkByteCount = 4096
                try shared.save(state, step: step, options: options)
            }
        }
    }

    /// Loads on two ranks, which need two files each.
    private func load(_ names: [String] = ["w"]) throws -> [Loaded<ShardedState>] {
        let mesh = try DeviceMesh(["dp": 2])
        let tensors = try names.map {
            PlacedTensor(name: $0, scalarType: .f32, shape: Self.shape, layout: try Layout(mesh, ["dp": .shard(0)]))
        }
        return try ThreadCommunicator.run(ranks: 2) { [store] communicator in
            try ShardedStore(store, over: communicator).loadLatest(tensors)
        }
    }

    private func change(_ name: String, ofStep step: Int, _ body: (inout [UInt8]) -> Void) throws {
        let key = try #require(
            storage.list("step-").map(\.key).first { $0.contains("0\(step)/") && $0.contains(name) })
        var bytes = try storage.readAll(key, limit: 1 << 20)
        body(&bytes)
        try storage.publish(bytes, as: key)
    }

    private func expect(_ parts: [Loaded<ShardedState>], _ step: Int, skipping skipped: [Int], value: Int? = nil) throws {
        #expect(parts.count == 2)
        for part in parts {
            #expect(part.manifest.step == step)
            #expect(part.skipped.map(\.step) == skipped)
            let elements = try #require(part.state.local("w")).elements(as: Float.self)
            #expect(elements.count == 4 * 4096 && elements.allSatisfy { $0 == Float(value ?? step) })
            #expect(part.state.values.contains { $0.name == "step" && $0.value == .integer(Int64(value ?? step)) })
        }
        #expect(parts[0].manifest.saveID == parts[1].manifest.saveID)
        #expect(parts[0].skipped.map { "\($0.error)" } == parts[1].skipped.map { "\($0.error)" })
    }

    @Test func theNewestCheckpointIsLoaded() throws {
        try expect(load(), 3, skipping: [])
    }

    @Test(arguments: 0..<4)
    func aDamagedChunkThatOneRankFindsMakesAllTakeTheOneBefore(file: Int) throws {
        try change("rank-0000\(file)", ofStep: 3) { $0[$0.count - 5000] ^= 1 }
        let parts = try load()
        try expect(parts, 2, skipping: [3])
        let error = parts[0].skipped[0].error
        #expect(error.code == .corrupted && error.context.rank == file / 2 && error.context.tensor == "w")
        #expect(error.context.file?.contains("rank-0000\(file)") == true)
    }

    @Test func aDamagedManifestAndAMissingFileArePassedOver() throws {
        try change("manifest", ofStep: 3) { $0[$0.count / 2] ^= 1 }
        let lost = try #require(
            storage.list("step-").map(\.key).first { $0.contains("02/") && $0.contains("rank-00003") })
        try storage.delete([lost])
        try expect(load(), 1, skipping: [3, 2])
    }

    /// What some rank has found damaged is kept when all of them save that step again.
    @Test func theCasesOfAResumeAreTheSameOnEveryRankAndADamagedStepIsSetAside() throws {
        try change("rank-00002", ofStep: 3) { $0[$0.count - 5000] ^= 1 }
        let old = try storage.list("step-00000003/").map { try storage.readAll($0.key) }
        let mesh = try DeviceMesh(["dp": 2])
        let tensors = [
            PlacedTensor(name: "w", scalarType: .f32, shape: Self.shape, layout: try Layout(mesh, ["dp": .shard(0)]))
        ]
        let empty = CheckpointStore(storage: MemoryStorage(), name: "empty")
        let aside = try ThreadCommunicator.run(ranks: 2) { [store] communicator -> String? in
            guard case .nothingYet = try ShardedStore(empty, over: communicator).resume(tensors) else { return nil }
            let shared = try ShardedStore(store, over: communicator)
            guard case .resumed(let latest) = try shared.resume(tensors), latest.manifest.step == 2 else { return nil }
            let saved = try shared.save(latest.state, step: 3, options: SaveOptions(replacing: true))
            return communicator.rank == 0 ? saved?.setAside?.location : "fine"
        }
        #expect(aside[0]?.contains("set-aside-") == true && aside[1] == "fine")
        try expect(load(), 3, skipping: [], value: 2)
        let left = try storage.list("step-00000003/").map { try storage.readAll($0.key) }
        #expect(old.allSatisfy { left.contains($0) })
        for step in 1...3 { try change("manifest", ofStep: step) { $0.removeLast(20) } }
        let cases = try ThreadCommunicator.run(ranks: 2) { [store] communicator -> [Int] in
            guard case .nothingUsable(_, let skipped) = try ShardedStore(store, over: communicator).resume(tensors) else {
                return []
            }
            return skipped.map(\.step)
        }
        #expect(cases == [[3, 2, 1], [3, 2, 1]])
    }

    @Test func withoutAUsableCheckpointEveryRankSaysSo() throws {
        for step in 1...3 { try change("manifest", ofStep: step) { $0.removeLast(20) } }
        let error = #expect(throws: CairnError.self) { try load() }
        #expect(error?.code == .nothingUsable && error?.context.found?.contains("3, 2, 1") == true)
    }

    /// An older checkpoint would not have it either.
    @Test func aTensorThatTheStateNeverHadIsRefusedAtOnce() throws {
        let error = #expect(throws: CairnError.self) { try load(["w", "v"]) }
        #expect(error?.code == .notFound && error?.context.tensor == "v")
    }
}
