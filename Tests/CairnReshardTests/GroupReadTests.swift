import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnLayoutTesting
import CairnReshard
import CairnStorage
import CairnTensor
import Synchronization
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
        let storage = CountingStorage(MemoryStorage())
        let store = CheckpointStore(storage: storage, name: "memory")
        var state = TrainingState()
        state.set(try Tensor(zeros: .f32, [64, 1024]), for: "w")
        var options = SaveOptions()
        options.chunkByteCount = 4096
        try store.save(state, step: 1, options: options)
        // What opening costs: the manifest and the headers, by each rank.
        storage.readByteCount.store(0, ordering: .relaxed)
        _ = try store.open(step: 1).verify(deep: false)
        let opening = storage.readByteCount.load(ordering: .relaxed)
        storage.readByteCount.store(0, ordering: .relaxed)
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
            try ShardedState(reading: store.open(step: 1), rank: communicator.rank, tensors: [tensor], with: communicator)
                .local("w") != nil
        }
        #expect(storage.readByteCount.load(ordering: .relaxed) - 4 * opening == 64 * 1024 * 4)
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

/// A storage that counts the bytes that are read.
private final class CountingStorage: Storage {
    let base: any Storage
    let readByteCount = Atomic(0)

    init(_ base: any Storage) { self.base = base }

    func open(_ key: String) throws(CairnError) -> any StorageFile {
        CountingFile(base: try base.open(key), storage: self)
    }
    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try base.create(key, byteCount: byteCount)
    }
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try base.publish(bytes, as: key) }
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try base.list(prefix) }
    func delete(_ keys: [String]) throws(CairnError) { try base.delete(keys) }
}

private final class CountingFile: StorageFile {
    let base: any StorageFile
    let storage: CountingStorage

    init(base: any StorageFile, storage: CountingStorage) {
        self.base = base
        self.storage = storage
    }

    var key: String { base.key }
    var byteCount: Int { base.byteCount }
    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        storage.readByteCount.add(destination.byteCount, ordering: .relaxed)
        try base.read(at: offset, into: &destination)
    }
    func map() throws(CairnError) -> MemoryMapping? { try base.map() }
}
