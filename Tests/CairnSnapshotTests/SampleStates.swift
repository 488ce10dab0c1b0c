import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Synchronization

/// A state of small and large tensors in the memory of a pool.
func sampleState(_ random: inout SimulationRandom, pool: BufferPool?, tensorCount: Int = 9) throws -> TrainingState {
    var state = TrainingState()
    for index in 0..<tensorCount {
        let count = [1, 700, 4096, 20_000, 60_000][index % 5]
        let tensor = try Tensor(.f32, [count], pool: pool) { bytes in
            for offset in stride(from: 0, to: bytes.byteCount, by: 4) {
                bytes.storeBytes(of: UInt32(truncatingIfNeeded: random.next()), toByteOffset: offset, as: UInt32.self)
            }
        }
        state.set(tensor, for: "tensor.\(index)")
    }
    state.tie("tied", to: "tensor.1")
    state.set(.integer(Int64(bitPattern: random.next())), for: "counter")
    return state
}

/// Updates a tensor of a state as an optimizer does: in place, or out of place while it is shared.
func update(_ state: inout TrainingState, _ name: String, adding amount: UInt32, pool: BufferPool?) throws {
    var tensor = try state.tensor(name)
    // So that the state's reference does not count.
    state.set(.null, for: name)
    tensor.rewrite(as: Float.self, pool: pool) { old, new in
        for index in old.indices { new[index] = Float(bitPattern: old[index].bitPattern &+ amount) }
    }
    state.set(tensor, for: name)
}

/// The same state in memory of its own.
func deepCopy(_ state: TrainingState) throws -> TrainingState {
    var copy = state
    for (name, tensor) in state.tensors {
        copy.set(try Tensor(tensor.scalarType, tensor.shape, copying: tensor.bytes), for: name)
    }
    return copy
}

/// Small chunks, so that small tensors have several.
func smallChunks(_ change: (inout SaveOptions) -> Void = { _ in }) -> SaveOptions {
    var options = SaveOptions()
    options.chunkByteCount = 4096
    change(&options)
    return options
}

/// A storage whose writes a test can hold up or let fail.
final class ManagedStorage: Storage {
    let distinction: Distinction? = Distinction()
    private let inner: any Storage
    private let gate = Monitor(Gate())

    private struct Gate {
        var isOpen = true
        /// Writes that pass before the gate closes by itself.
        var allowance: Int?
        var error: CairnError?
        var waiting = 0
    }

    init(_ inner: any Storage = MemoryStorage()) { self.inner = inner }

    /// From now on writes wait.
    func close(after count: Int = 0) {
        gate.change { gate in
            gate.isOpen = count > 0
            gate.allowance = count
        }
    }

    func open() {
        gate.change { gate in
            gate.isOpen = true
            gate.allowance = nil
        }
    }

    /// From now on everything that writes throws; `nil` ends that.
    func fail(_ error: CairnError?) { gate.change { $0.error = error } }

    /// Blocks until a write waits.
    func awaitWaiter() { _ = gate.wait { $0.waiting > 0 ? true : nil } }

    fileprivate func pass() throws(CairnError) {
        gate.change { $0.waiting += 1 }
        defer { gate.change { $0.waiting -= 1 } }
        let error: CairnError?? = gate.wait { gate -> CairnError?? in
            if let error = gate.error { return .some(error) }
            guard gate.isOpen else { return nil }
            if let allowance = gate.allowance {
                gate.allowance = allowance - 1
                gate.isOpen = allowance > 1
            }
            return .some(nil)
        }
        if case .some(.some(let error)) = error { throw error }
    }

    func open(_ key: String) throws(CairnError) -> any StorageFile { try inner.open(key) }

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        ManagedWriter(try inner.create(key, byteCount: byteCount), self)
    }

    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        if let error = gate.read(\.error) { throw error }
        try inner.publish(bytes, as: key)
    }

    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try inner.list(prefix) }

    func delete(_ keys: [String]) throws(CairnError) { try inner.delete(keys) }
}

private final class ManagedWriter: StorageWriter {
    private let inner: any StorageWriter
    private let storage: ManagedStorage

    init(_ inner: any StorageWriter, _ storage: ManagedStorage) {
        self.inner = inner
        self.storage = storage
    }

    var key: String { inner.key }

    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        try storage.pass()
        try inner.write(bytes, at: offset)
    }

    func startWriteback(at offset: Int, byteCount: Int) { inner.startWriteback(at: offset, byteCount: byteCount) }

    func finish(byteCount: Int) throws(CairnError) { try inner.finish(byteCount: byteCount) }

    func discard() { inner.discard() }
}
