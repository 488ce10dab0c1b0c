import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting

/// A few kilobytes of every kind of entry, of which every part differs from seed to seed.
func smallState(_ seed: Int, scale: Int = 1) throws -> TrainingState {
    var generator = SeededGenerator(seed: UInt64(seed) &* 977)
    func random(_ type: ScalarType, _ shape: Shape) throws -> Tensor {
        try Tensor(type, shape) { bytes in
            bytes.withUnsafeMutableBytes { buffer in
                for index in buffer.indices { buffer[index] = UInt8.random(in: 0...255, using: &generator) }
            }
        }
    }
    var state = TrainingState()
    state.set(try random(.bf16, [60 * scale, 9]), for: "weight")
    state.set(Tensor((0..<1100 * scale).map { Float(seed * 7 + $0 / 16) }), for: "ramp")
    state.set(try random(.u8, [9]), for: "mask")
    state.set(try random(.i64, .scalar), for: "count")
    state.tie("head", to: "weight")
    state.set(.integer(Int64(seed)), for: "step")
    state.set(.dictionary(["$odd": .list([.null, .bytes([0, UInt8(seed & 255)])])]), for: "nested")
    return state
}

/// Options that are the same on every run, for one thread, with a save id that `number` determines.
func repeatableOptions(_ number: Int, _ change: (inout SaveOptions) -> Void = { _ in }) -> SaveOptions {
    var generator = SeededGenerator(seed: UInt64(number))
    var options = SaveOptions()
    options.chunkByteCount = 4096
    options.concurrency = 1
    options.time = 1
    options.saveID = SaveID(using: &generator)
    change(&options)
    return options
}

/// Saves each tensor cut into the rows of two ranks; what has a single row or none stays with rank 0.
func saveInTwoRanks(_ state: TrainingState, step: Int, in store: CheckpointStore, _ options: SaveOptions) throws {
    let session = try store.beginSave(step: step, rankCount: 2, options: options)
    do {
        try writeTwoRanks(of: state, to: session)
        try session.commit()
    } catch {
        session.cancel()
        throw error
    }
}

func writeTwoRanks(of state: TrainingState, to session: SaveSession) throws {
    try session.setGlobal(values: state.values, ties: state.ties)
    for rank in 0..<2 {
        var fragments: [TensorFragment] = []
        for (name, tensor) in state.tensors {
            guard let rows = tensor.shape.extents.first, rows > 1 else {
                if rank == 0 { fragments.append(TensorFragment(whole: tensor, name: name)) }
                continue
            }
            let half = rows / 2
            let offsets = [rank * half] + [Int](repeating: 0, count: tensor.shape.dimensionCount - 1)
            let extents = [rank == 0 ? half : rows - half] + tensor.shape.extents.dropFirst()
            let region = try Region(offsets: offsets, shape: Shape(extents))
            fragments.append(
                try TensorFragment(
                    name: name, globalShape: tensor.shape, region: region, tensor: tensor.copy(of: region)))
        }
        try session.write(rank: rank, fragments: fragments, values: [NamedValue(name: "rank", value: .integer(Int64(rank)))])
    }
}

/// Load options for one thread.
var sequentialLoad: LoadOptions {
    var options = LoadOptions()
    options.concurrency = 1
    return options
}

extension CheckpointStore {
    /// A store on a simulated disk.
    convenience init(on disk: SimulatedDisk, writing: LocalWriting = .buffered) {
        let reading: LocalReading = writing == .direct ? .direct : .buffered
        let storage = LocalStorage(root: "/run", writing: writing, reading: reading, fileSystem: disk)
        self.init(storage: storage, name: "run")
    }

    /// The key of a rank's file in a committed checkpoint.
    func rankKey(_ rank: Int = 0, step: Int) throws -> String {
        StepName.prefix(step) + (try open(step: step).manifest.files[rank].name)
    }

    /// The keys of manifests and of the files that they name.
    func committedKeys() throws -> Set<String> {
        var keys = Set<String>()
        for step in try steps() {
            let prefix = StepName.prefix(step)
            keys.insert(prefix + "manifest.json")
            keys.formUnion(try open(step: step).manifest.files.map { prefix + $0.name })
        }
        return keys
    }
}
