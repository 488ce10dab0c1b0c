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

        func writer(_ storage: MemoryStorage) -> any CheckpointWriter {
            switch self {
            case .torch: TorchWriter(storage: storage, key: "file.pt")
            case .distributed: DistributedCheckpointWriter(storage: storage)
            case .divided: DistributedCheckpointWriter(storage: storage, fileCount: 3)
            case .shards: ShardedSafeTensorsWriter(storage: storage, fileCount: 2)
            }
        }

        func reader(_ storage: MemoryStorage) throws -> any CheckpointReader {
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
        // What files for `weights_only` do not hold is a plain node after a way through one.
        case .typed(let kind, let node)?: (StateLosses.isTorch(kind) ? "\(kind)" : "") + description(node)
        }
    }

    /// Everything that Python has and `torch.load` with `weights_only` takes, nested in each other.
    private static let kinds = StateNode.dictionary([
        .init(key: "set", node: .typed(.set, .list([.tuple([.value(2), .value(.null)]), .value(1), .value("a")]))),
        .init(key: "empty", node: .typed(.set, .list([]))),
        .init(
            key: "ordered",
            node: .typed(
                .orderedDictionary,
                .dictionary([.init(key: .index(-2), node: .typed(.parameter(requiresGradient: true), .tensor("p")))]))),
        .init(key: "counter", node: .typed(.counter, .dictionary([.init(key: "x", node: .value(2))]))),
        .init(key: "bytes", node: .typed(.byteArray, .value(.bytes([0, 255])))),
        .init(key: "complex", node: .typed(.complex, .value(.list([.double(1.5), .double(-0.0)])))),
        .init(key: "large", node: .typed(.bigInteger, .value(.string("-170141183460469231731687303715884105729")))),
        .init(key: "size", node: .typed(.size, .value(.list([.integer(2), .integer(3)])))),
        .init(key: "type", node: .typed(.scalarType, .value(.string("torch.bfloat16")))),
        .init(key: "layout", node: .typed(.layout, .value(.string("torch.strided")))),
        .init(key: "device", node: .typed(.device, .value(.string("cuda:1")))),
        .init(key: "gradient", node: .typed(.gradient, .tensor("g"))),
        .init(key: .value(.bool(true)), node: .value(1)), .init(key: .value(.null), node: .value(2)),
        .init(key: .value(.double(0.5)), node: .value(3)), .init(key: .value(.bytes([1, 0x6B])), node: .value(4)),
        .init(key: .value(.list([.integer(1), .string("a")])), node: .value(5)),
    ])

    @Test func whatPythonHasComesBackAsItWas() throws {
        let storage = MemoryStorage()
        let writer = TorchWriter(storage: storage, key: "file.pt")
        let names = ["g", "p"]
        let notes = try writer.begin(
            tensors: names.map { TensorDescription(name: $0, scalarType: .f32, shape: [2]) }, values: [], structure: Self.kinds)
        #expect(notes.isEmpty)
        for _ in names { try writer.append(([1, 2, 3, 4, 5, 6, 7, 8] as [UInt8]).span.bytes) }
        try writer.finish()
        let reader = try TorchReader(storage: storage, file: "file.pt")
        #expect(reader.skippedEntries.isEmpty)
        #expect(
            description(reader.structure)
                == description(Self.kinds.naming { $0 == "p" ? "ordered.-2" : "gradient" }))
        // And is written again to the same bytes.
        let again = MemoryStorage()
        _ = try copyCheckpoint(from: reader, to: Format.torch.writer(again))
        let third = MemoryStorage()
        _ = try copyCheckpoint(from: TorchReader(storage: again, file: "file.pt"), to: Format.torch.writer(third))
        #expect(try again.readAll("file.pt") == third.readAll("file.pt"))
    }

    /// Sparse, quantized and other tensors of parts: dictionaries elsewhere, themselves in PyTorch's files.
    @Test func tensorsOfPartsAreTensorsAgain() throws {
        let source = try TorchReader(path: Fixture.path("torch/variants/described.pt"))
        let storage = MemoryStorage()
        let notes = try copyCheckpoint(from: source, to: Format.torch.writer(storage))
        let reader = try TorchReader(storage: storage, file: "file.pt")
        #expect(description(reader.structure) == description(source.structure))
        #expect(description(source.structure).contains("sparseTensor{"))
        #expect(
            notes == [
                "\"nested\", \"jagged\": was a nested tensor and becomes a dictionary of its parts",
                "\"jagged.values\": was a tensor of a class or with attributes of its own and becomes a plain tensor",
            ])
        let flat = try copyCheckpoint(from: source, to: SafeTensorsWriter(storage: storage, key: "m.safetensors"))
        #expect(flat.contains { $0.contains("was a sparse tensor and becomes a dictionary of its parts") })
        #expect(flat.contains { $0.contains("was a quantized tensor and becomes a dictionary of its parts") })
    }

    @Test func tensorsAreShardedAlongTheirFirstDimension() throws {
        let source = try Self.source("torch/dtypes/dtypes.pt")
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: source, to: DistributedCheckpointWriter(storage: storage, fileCount: 2))
        let reader = try DistributedCheckpointReader(storage: storage, source: "memory")
        let fragments = try #require(try reader.storedPieces(of: "F32.m"))
        #expect(fragments.map(\.region.offsets) == [[0, 0], [2, 0]])
        #expect(fragments.map(\.file) == ["__0_0.distcp", "__1_0.distcp"])
        #expect(try reader.storedPieces(of: "F32.scalar")?.count == 1)
        #expect(try reader.storedPieces(of: "F32.empty")?.isEmpty == true)
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
