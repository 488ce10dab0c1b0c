import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// What Cairn writes in PyTorch's formats holds what was read. That PyTorch loads it is for `Scripts/interop` to show.
@Suite struct CheckpointWriterTests {
    enum Format: CaseIterable, Sendable {
        case torch, distributed, divided, shards

        func writer(_ storage: MemoryStorage, replaces: Bool = false) -> any CheckpointWriter {
            switch self {
            case .torch: TorchWriter(storage: storage, key: "file.pt", replaces: replaces)
            case .distributed: DistributedCheckpointWriter(storage: storage, replaces: replaces)
            case .divided: DistributedCheckpointWriter(storage: storage, fileCount: 3, replaces: replaces)
            case .shards: ShardedSafeTensorsWriter(storage: storage, fileCount: 2, replaces: replaces)
            }
        }

        func reader(_ storage: MemoryStorage) throws -> any VerifiableReader {
            self == .torch
                ? try TorchReader(storage: storage, file: "file.pt")
                : try DistributedCheckpointReader(storage: storage, source: "memory")
        }
    }

    private static func source(_ name: String) throws -> any CheckpointReader {
        name.hasPrefix("torch/")
            ? try TorchReader(path: Fixture.path(name)) : try DistributedCheckpointReader(path: Fixture.path(name))
    }

    @Test(
        arguments: [
            "torch/train_full/ckpt.pt", "torch/views/views.pt", "torch/dtypes/dtypes.pt", "torch/variants/described.pt",
            "torch/state_dict/model_bf16_tied.pt", "torch/variants/bare_tensor.pt", "dcp/w4_tp2_fsdp2/checkpoint",
        ], Format.allCases)
    func aStateSurvivesTheWayThroughEveryFormat(name: String, format: Format) throws {
        var source = try Self.source(name)
        if format == .shards, name == "torch/dtypes/dtypes.pt" {
            source = try SelectedReader(source, exclude: ["C32.*", "C128.*"])
        }
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: format.writer(storage), bufferByteCount: 777)
        let reader = try format.reader(storage)
        let before = try CheckpointDigest(of: source), after = try CheckpointDigest(of: reader)
        #expect(after.tensors == before.tensors)
        #expect(after.objects == before.objects)
        #expect(try reader.verify(deep: true) { _ in }.isValid)
        #expect(reader.tensors.map(\.tiedTo) == source.tensors.map(\.tiedTo))
        // What was written is read and written again to the same bytes.
        guard format == .torch else { return }
        let again = MemoryStorage()
        _ = try copyCheckpoint(from: reader, to: format.writer(again), bufferByteCount: 5000)
        #expect(try again.readAll("file.pt") == storage.readAll("file.pt"))
    }

    @Test(arguments: ["torch/train_full/ckpt.pt", "torch/variants/legacy_p2.pt"])
    func nestingSurvives(name: String) throws {
        let source = try TorchReader(path: Fixture.path(name))
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: Format.torch.writer(storage))
        let reader = try TorchReader(storage: storage, file: "file.pt")
        #expect(description(reader.structure) == description(source.structure))
        #expect(description(source.structure).contains("("))
    }

    /// A structure as text: lists in brackets, tuples in parentheses, dictionaries in braces.
    private func description(_ node: StateNode?) -> String {
        switch node {
        case nil: "none"
        case .tensor(let name)?: "<\(name)>"
        // Lists of numbers and lists of nodes that are numbers are the same.
        case .value(.list(let values))?: description(.list(values.map { .value($0) }))
        case .value(.dictionary(let members))? where members.isEmpty: "{}"
        case .value(let value)?: "\(value)"
        case .list(let nodes)?: "[" + nodes.map(description).joined(separator: ", ") + "]"
        case .tuple(let nodes)?: "(" + nodes.map(description).joined(separator: ", ") + ")"
        case .dictionary(let members)?:
            "{" + members.map { "\($0.key): \(description($0.node))" }.joined(separator: ", ") + "}"
        }
    }

    @Test func tensorsAreDividedAlongTheirFirstDimension() throws {
        let source = try Self.source("torch/dtypes/dtypes.pt")
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: DistributedCheckpointWriter(storage: storage, fileCount: 2))
        let reader = try DistributedCheckpointReader(storage: storage, source: "memory")
        let fragments = try reader.storedFragments(of: "F32.m")
        #expect(fragments.map(\.region.offsets) == [[0, 0], [2, 0]])
        #expect(fragments.map(\.file) == ["__0_0.distcp", "__1_0.distcp"])
        #expect(try reader.storedFragments(of: "F32.scalar").count == 1)
        #expect(try reader.storedFragments(of: "F32.empty").isEmpty)
    }

    @Test(arguments: Format.allCases)
    func nothingIsReplacedUnasked(format: Format) throws {
        let source = try Self.source("torch/views/views.pt")
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: format.writer(storage))
        let before = try storage.list("").map { try storage.readAll($0.key) }
        let error = refusal { _ = try copyCheckpoint(from: source, to: format.writer(storage)) }
        #expect(error?.code == .alreadyExists)
        #expect(try storage.list("").map { try storage.readAll($0.key) } == before)
        let other = try Self.source("torch/state_dict/model_bf16_tied.pt")
        _ = try copyCheckpoint(from: other, to: format.writer(storage, replaces: true))
        #expect(try CheckpointDigest(of: format.reader(storage)).tensors == CheckpointDigest(of: other).tensors)
    }

    @Test(arguments: Format.allCases)
    func whatIsNotFinishedIsNotThere(format: Format) throws {
        let source = try Self.source("torch/views/views.pt")
        let storage = MemoryStorage()
        let writer = format.writer(storage)
        _ = try writer.begin(tensors: source.tensors, values: source.values, structure: source.structure)
        try writer.append(([1, 2, 3, 4] as [UInt8]).span.bytes)
        #expect(refusal { try writer.finish() }?.code == .incomplete)
        writer.discard()
        #expect(try storage.list("").isEmpty)
    }

    @Test(arguments: [Format.torch, .distributed])
    func typesThatPyTorchLacksAreRefusedByName(format: Format) throws {
        let storage = MemoryStorage()
        let tensor = TensorDescription(name: "six", scalarType: .f6e2m3, shape: [4])
        let error = refusal { _ = try format.writer(storage).begin(tensors: [tensor], values: [], structure: nil) }
        #expect(error?.code == .unsupported)
        #expect(error?.context.tensor == "six")
        #expect(try storage.list("").isEmpty)
    }

    @Test(arguments: [Format.torch, .divided])
    func aFlippedBitInWhatWasWrittenIsFound(format: Format) throws {
        let source = try Self.source("torch/state_dict/model_bf16_tied.pt")
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: format.writer(storage))
        let name = "h.0.attn.qkv.weight"
        let tensor = try source.tensor(name)
        let needle = tensor.bytes.withUnsafeBytes { Array($0.prefix(64)) }
        let file = format == .torch ? "file.pt" : "__0_0.distcp"
        var bytes = try storage.readAll(file)
        let place = try #require(bytes.firstRange(of: needle)?.lowerBound)
        bytes[place + 11] ^= 1
        try storage.publish(bytes, as: file)
        let damaged = try format.reader(storage)
        #expect(refusal { _ = try damaged.tensor(name) }?.code == .corrupted)
        let report = try format.reader(storage).verify(deep: true) { _ in }
        #expect(report.damages.map(\.error.code) == [.corrupted])
    }

    @Test(arguments: [Format.torch, .distributed])
    func twoThingsOfOneNameAreRefused(format: Format) throws {
        let storage = MemoryStorage()
        let tensor = TensorDescription(name: "step", scalarType: .f32, shape: [1])
        let error = refusal {
            _ = try format.writer(storage).begin(
                tensors: [tensor], values: [NamedValue(name: "step", value: 3)], structure: nil)
        }
        #expect(error?.code == .unsupported)
        #expect(try storage.list("").isEmpty)
    }

    @Test func aStoreWithoutNestingBecomesOneDictionary() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var state = TrainingState()
        state.set(try Tensor(zeros: .f32, [2, 3]), for: "model.weight")
        state.set(.dictionary(["lr": 0.5, "betas": [0.9, 0.99]]), for: "optimizer")
        state.set(7, for: "step")
        try store.save(state, step: 7)
        let storage = MemoryStorage()
        let source = try store.open(step: 7)
        _ = try copyCheckpoint(from: source, to: Format.torch.writer(storage))
        let reader = try TorchReader(storage: storage, file: "file.pt")
        guard case .dictionary(let members)? = reader.structure else {
            Issue.record("no dictionary")
            return
        }
        #expect(members.map(\.key.text) == ["model.weight", "optimizer", "step"])
        #expect(try CheckpointDigest(of: reader).objects == CheckpointDigest(of: source).objects)
    }
}
