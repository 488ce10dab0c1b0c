import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A few kilobytes of state, every part of which differs from seed to seed.
func tierState(_ seed: Int) throws -> TrainingState {
    var state = TrainingState()
    state.set(try Tensor((0..<3000).map { Float(seed * 10_000 + $0) }, [60, 50]), for: "weight")
    state.set(Tensor((0..<9).map { Float(seed) + Float($0) / 8 }), for: "bias")
    state.set(try Tensor((0..<5000).map { UInt8(truncatingIfNeeded: seed + $0 / 64) }, [5000]), for: "mask")
    state.tie("head", to: "weight")
    state.set(.integer(Int64(seed)), for: "seed")
    return state
}

/// Options for one thread, the same on every run.
func tierOptions(_ number: Int, _ change: (inout SaveOptions) -> Void = { _ in }) -> SaveOptions {
    var options = SaveOptions()
    options.chunkByteCount = 4096
    options.concurrency = 1
    options.time = 1
    let digits = String(number)
    options.saveID = SaveID(String(repeating: "0", count: 16 - digits.utf8.count) + digits + String(repeating: "a", count: 16))
    change(&options)
    return options
}

/// Saves a state cut into the rows of two ranks, one of them compressed where that is asked for.
func saveTierState(_ state: TrainingState, step: Int, ranks: Int, in store: CheckpointStore, _ options: SaveOptions) throws {
    let session = try store.beginSave(step: step, rankCount: ranks, options: options)
    try session.setGlobal(values: state.values, ties: state.ties)
    for rank in 0..<ranks {
        var fragments: [TensorFragment] = []
        for (name, tensor) in state.tensors {
            let rows = tensor.shape.extents[0]
            let begin = rows * rank / ranks
            let extents = [rows * (rank + 1) / ranks - begin] + tensor.shape.extents.dropFirst()
            let offsets = [begin] + [Int](repeating: 0, count: extents.count - 1)
            let region = try Region(offsets: offsets, shape: Shape(extents))
            fragments.append(
                try TensorFragment(
                    name: name, globalShape: tensor.shape, region: region, tensor: tensor.copy(of: region)))
        }
        try session.write(rank: rank, fragments: fragments, values: [NamedValue(name: "rank", value: .integer(Int64(rank)))])
    }
    try session.commit()
}

var tierLoad: LoadOptions {
    var options = LoadOptions()
    options.concurrency = 1
    return options
}

extension CheckpointStore {
    /// A store on a simulated disk.
    convenience init(tier disk: SimulatedDisk) {
        self.init(storage: LocalStorage(root: "/run", writing: .buffered, fileSystem: disk), name: "disk")
    }

    /// A store in memory.
    static func inMemory(_ name: String = "memory") -> CheckpointStore {
        CheckpointStore(storage: MemoryStorage(), name: name)
    }

    /// Changes the bytes of the object of a step whose name begins with `name`.
    func damage(_ name: String, ofStep step: Int, _ body: (inout [UInt8]) -> Void) throws {
        let prefix = StepName.prefix(step)
        for entry in try storage.list(prefix + name) {
            var bytes = try storage.readAll(entry.key)
            body(&bytes)
            try storage.publish(bytes, as: entry.key)
            return
        }
        throw CairnError(.notFound, "the test finds nothing to damage", .init(file: prefix + name))
    }

    /// Every object of a step by its name.
    func objects(ofStep step: Int) throws -> [String: [UInt8]] {
        var objects: [String: [UInt8]] = [:]
        for entry in try storage.list(StepName.prefix(step)) { objects[entry.key] = try storage.readAll(entry.key) }
        return objects
    }
}

/// A storage that can be pulled out and put back, or made to stand still.
final class DetachableStorage: Storage {
    let distinction: Distinction? = Distinction()
    private struct State {
        var isGone = false
        var isHeld = false
        var waitingCount = 0
    }

    private let base: any Storage
    private let state = Monitor(State())

    init(_ base: any Storage = MemoryStorage()) { self.base = base }

    var isGone: Bool {
        get { state.read(\.isGone) }
        set { state.change { $0.isGone = newValue } }
    }

    /// While it is held, `create` waits.
    var isHeld: Bool {
        get { state.read(\.isHeld) }
        set { state.change { $0.isHeld = newValue } }
    }

    /// Returns when a caller waits in `create`.
    func awaitHeldCall() { _ = state.wait { $0.waitingCount > 0 ? true : nil } }

    private func check() throws(CairnError) {
        if isGone { throw CairnError(.inputOutput, "the device is gone", .init(advice: "put it back")) }
    }

    func open(_ key: String) throws(CairnError) -> any StorageFile {
        try check()
        return try base.open(key)
    }

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        state.change { $0.waitingCount += 1 }
        _ = state.wait { $0.isHeld ? nil : true }
        state.change { $0.waitingCount -= 1 }
        try check()
        return try base.create(key, byteCount: byteCount)
    }

    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        try check()
        try base.publish(bytes, as: key)
    }

    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try check()
        return try base.list(prefix)
    }

    func delete(_ keys: [String]) throws(CairnError) {
        try check()
        try base.delete(keys)
    }
}
