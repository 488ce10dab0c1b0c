import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnLayoutTesting
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

@Suite struct GroupReadTests {
    @Test func ranksThatReadTogetherGetWhatEachWouldHaveReadAlone() throws {
        let first = UInt64.random(in: 0...UInt64.max / 2)
        for seed in first..<first + 60 {
            var layouts = RandomLayouts(seed: seed)
            let saved = try RandomState(&layouts, rankCount: layouts.random.pick(1...4))
            let wanted = try RandomState(of: saved, &layouts, rankCount: layouts.random.pick(1...5))
            let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
            try save(saved, in: store)
            let agree = try ThreadCommunicator.run(ranks: wanted.rankCount) { communicator in
                let loaded = try ShardedState(
                    reading: store.open(step: 1), rank: communicator.rank, tensors: wanted.tensors, with: communicator)
                return try wanted.tensors.allSatisfy {
                    loaded.local($0.name) == (try wanted.local($0, rank: communicator.rank))
                }
            }
            #expect(agree.allSatisfy { $0 }, "seed \(seed)")
        }
    }

    @Test func aChunkThatSeveralReplicasNeedIsReadOnce() throws {
        let mesh = try DeviceMesh(["dp": 4])
        let tensor = PlacedTensor(name: "w", scalarType: .f32, shape: [64, 1024], layout: .replicated(on: mesh))
        let storage = RecordingStorage(MemoryStorage())
        let store = CheckpointStore(storage: storage, name: "memory")
        var state = TrainingState()
        state.set(try Tensor(zeros: .f32, [64, 1024]), for: "w")
        var options = SaveOptions()
        options.chunkByteCount = 4096
        try store.save(state, step: 1, options: options)
        // What opening costs: the manifest and the headers, by each rank.
        storage.forget()
        _ = try store.open(step: 1).verify(deep: false)
        let opening = storage.readByteCount
        storage.forget()
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
            try ShardedState(reading: store.open(step: 1), rank: communicator.rank, tensors: [tensor], with: communicator)
                .local("w") != nil
        }
        #expect(storage.readByteCount - 4 * opening == 64 * 1024 * 4)
    }

    @Test func replicasReadEquallyMuch() throws {
        let mesh = try DeviceMesh(["dp": 4])
        let base = MemoryStorage()
        var state = TrainingState()
        var tensors: [PlacedTensor] = []
        for index in 0..<8 {
            tensors.append(
                PlacedTensor(
                    name: "w\(index)", scalarType: .f32, shape: [64, 256], layout: .replicated(on: mesh)))
            state.set(try Tensor(zeros: .f32, [64, 256]), for: "w\(index)")
        }
        try CheckpointStore(storage: base, name: "memory").save(state, step: 1)
        // Each rank's own view of the storage tells what that rank read.
        let placed = tensors
        let counts = try ThreadCommunicator.run(ranks: 4) { communicator in
            let storage = RecordingStorage(base)
            let reader = try CheckpointStore(storage: storage, name: "memory").open(step: 1)
            _ = try reader.verify(deep: false)
            storage.forget()
            _ = try ShardedState(reading: reader, rank: communicator.rank, tensors: placed, with: communicator)
            return storage.readByteCount
        }
        #expect(counts == [Int](repeating: 2 * 64 * 256 * 4, count: 4))
    }

    @Test func aRankThatCannotReadIsNamedToAll() throws {
        let mesh = try DeviceMesh(["dp": 2])
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var state = TrainingState()
        state.set(try Tensor(zeros: .f32, [4]), for: "w")
        try store.save(state, step: 1)
        let tensor = PlacedTensor(name: "w", scalarType: .f32, shape: [4], layout: .replicated(on: mesh))
        let missing = PlacedTensor(name: "v", scalarType: .f32, shape: [4], layout: .replicated(on: mesh))
        #expect {
            try ThreadCommunicator.run(ranks: 2) { communicator in
                let tensors = communicator.rank == 1 ? [tensor, missing] : [tensor]
                _ = try ShardedState(
                    reading: store.open(step: 1), rank: communicator.rank, tensors: tensors, with: communicator)
            }
        } throws: { error in
            (error as? CairnError)?.context.tensor == "v"
        }
    }

    private func save(_ saved: RandomState, in store: CheckpointStore) throws {
        _ = try ThreadCommunicator.run(ranks: saved.rankCount) { communicator in
            var options = SaveOptions()
            options.chunkByteCount = 4096
            try ShardedStore(store, over: communicator)
                .save(saved.state(ofRank: communicator.rank), step: 1, options: options)
        }
    }
}
