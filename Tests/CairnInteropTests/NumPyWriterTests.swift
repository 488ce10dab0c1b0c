import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor
import Testing

@Suite struct NumPyWriterTests {
    /// A state with every type of elements and every kind of value.
    private func state() throws -> TrainingState {
        var state = TrainingState()
        // Our own format, which the state goes through, has no others.
        for scalarType in ScalarType.allCases where scalarType.isSafetensorsType {
            let whole: Shape = [3, 8]
            let empty: Shape = [0, 8]
            for (name, shape) in [("\(scalarType).m", whole), ("\(scalarType)/empty", empty)] {
                state.set(
                    try Tensor(scalarType, shape) { bytes in
                        bytes.withUnsafeMutableBytes { for index in $0.indices { $0[index] = UInt8(index & 1) } }
                    }, for: name)
            }
        }
        state.set(try Tensor(.f32, .scalar) { _ in }, for: "scalar")
        let values: [String: Value] = [
            "bool": true, "bytes": .bytes([0, 255, 0]), "double": .double(-0.0), "nan": .double(.nan), "null": .null,
            "list": [1, 2.5, "x", [1, 2], ["a": 1]], "tree": ["a": ["b": 1, "c": "x"], "empty": [:]], "text": "ünï",
            "nothing": "", "texts": ["a", "", "ccc"], "truths": [true, false], "unsigned": .unsigned(.max),
            "nul": "a\0", "numbers": .list((0..<100).map { .integer($0) }),
            "wide": ["x", .string(String(repeating: "y", count: 70_000))],
        ]
        for (name, value) in values { state.set(value, for: name) }
        // The name of a value may be that of an array.
        state.set(try Tensor(.u8, [1]) { _ in }, for: "tree/a/b")
        return state
    }

    private func reader(of state: TrainingState) throws -> (NumPyReader, CheckpointDigest, [String]) {
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "memory")
        try store.save(state, step: 1)
        let source = try store.open(step: 1)
        let notes = try copyCheckpoint(
            from: source, to: NumPyWriter(storage: storage, key: "f.npz"), bufferByteCount: 16)
        return (try NumPyReader(storage: storage, file: "f.npz"), try CheckpointDigest(of: source), notes)
    }

    @Test func everyTypeAndValueComesBack() throws {
        let (reader, before, notes) = try reader(of: state())
        let after = try CheckpointDigest(of: reader)
        #expect(after.tensors == before.tensors)
        #expect(after.objects == before.objects)
        #expect(try reader.verify(deep: true) { _ in }.isValid)
        for name in ["BF16", "F4", "F8_E4M3", "null", "list"] {
            #expect(notes.contains { $0.contains(name) }, "\(name): \(notes)")
        }
    }

    @Test(arguments: ["state_dict/model_bf16_tied.pt", "dtypes/dtypes.pt", "train_full/ckpt.pt"])
    func statesOfTorchComeBack(file: String) throws {
        let source = try TorchReader(path: Fixture.path("torch/" + file))
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: NumPyWriter(storage: storage, key: "f.npz"))
        let reader = try NumPyReader(storage: storage, file: "f.npz")
        #expect(reader.tensors == source.tensors)
        let before = try CheckpointDigest(of: source)
        let after = try CheckpointDigest(of: reader)
        #expect(before.tensors == after.tensors)
        #expect(before.objects == after.objects)
    }

    @Test func arraysAreAlignedForMapping() throws {
        let storage = MemoryStorage()
        let source = try NumPyReader(path: Fixture.path("numpy/a.npz"))
        _ = try copyCheckpoint(from: source, to: NumPyWriter(storage: storage, key: "f.npz"))
        let zip = try ZipArchive(storage.open("f.npz"))
        for entry in zip.entries { #expect(try zip.record(entry.name).dataOffset % 64 == 0) }
    }

    @Test func oneTensorIsOneArray() throws {
        let storage = MemoryStorage()
        let source = try NumPyReader(path: Fixture.path("numpy/fortran.npy"))
        _ = try copyCheckpoint(from: source, to: NumPyArrayWriter(storage: storage, key: "f.npy"))
        let reader = try NumPyReader(storage: storage, file: "f.npy")
        #expect(try CheckpointDigest(of: reader).tensors == CheckpointDigest(of: source).tensors)
        let many = try NumPyReader(path: Fixture.path("numpy/a.npz"))
        #expect(throws: CairnError.self) {
            try copyCheckpoint(from: many, to: NumPyArrayWriter(storage: storage, key: "g.npy"))
        }
        let halves = try NumPyReader(path: Fixture.path("numpy/bf16_void.npy"))
        #expect(throws: CairnError.self) {
            try copyCheckpoint(from: halves, to: NumPyArrayWriter(storage: storage, key: "g.npy"))
        }
        #expect(try storage.list("g").isEmpty)
    }
}
