import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnCommunication
import CairnInterop
import CairnLayout
import CairnMerge
import CairnReshard
import CairnStorage
import CairnTensor
import CairnTesting
import CairnUniversal

extension ReaderSample {
    /// Readers of other readers, over files of our own format where it is not said otherwise.
    static let views: [ReaderSample] = [
        ReaderSample(name: "memory", files: { MemoryStorage() }, open: { _ in try network(seed: 1) }, knowsPieces: false),
        view("renamed") { try RenamedReader($0, rules: [RenameRule("layers.*.weight", to: "net.$1.kernel")]) },
        view("selected") { try SelectedReader($0, include: ["layers.*", "tied"]) },
        view("cast") { try CastReader($0, to: .bf16, patterns: ["layers.0.*"]) },
        view("permuted") { base in
            var generator = SeededGenerator(seed: 5)
            return try PermutedReader(base, UnitPermutations(randomFor: spec, in: base, using: &generator), by: spec)
        },
        view("scaled") { base in
            let scaling = ScalingSpec(spec, labels: ["hidden.0", "hidden.1"])
            return try ScaledReader(base, scales: scaling.balance(base), by: scaling)
        },
        view("a view of a view of a view") { base in
            let renamed = try RenamedReader(base, rules: [RenameRule("layers.*", to: "l.$1")])
            return try CastReader(SelectedReader(renamed, exclude: ["l.1.*"]), to: .f16)
        },
        ReaderSample(
            name: "reduced", files: partialFiles,
            open: { storage in
                try ReducedReader(CheckpointStore(storage: storage, name: "store").open(step: 1))
            }),
        view("merged", knowsPieces: false) {
            try MergedCheckpoint(averaging: [MergeInput($0), MergeInput(network(seed: 2))])
        },
        ReaderSample(
            name: "module weights",
            files: { try WritableFormat.universal.files(of: WritableFormat.universal.randomState(seed: 4)) },
            open: { try ModuleWeights(WritableFormat.universal.open($0)) }, knowsPieces: false),
        view("a shard", knowsPieces: false) { try sharded($0).shard(ofRank: 1) },
        view("gathered shards", knowsPieces: false) { base in
            let whole = try sharded(base)
            let shards = try (0..<4).map { try whole.shard(ofRank: $0) }
            return try GatheredReader(shards, spec: rules(), mesh: ["tp": 2])
        },
        view("gathered flat buffers", knowsPieces: false) { base in
            let whole = try ShardedCheckpoint(base, spec: flatRules(), mesh: ["dp": 2], allowsLosses: true)
            return try GatheredReader((0..<2).map { try whole.shard(ofRank: $0) }, spec: flatRules())
        },
    ]

    private static func view(
        _ name: String, knowsPieces: Bool = true,
        _ make: @escaping @Sendable (any CheckpointReader) throws -> any CheckpointReader
    ) -> ReaderSample {
        ReaderSample(
            name: name, files: { try WritableFormat.cairn.files(of: network(seed: 1)) },
            open: { try make(WritableFormat.cairn.open($0)) }, knowsPieces: knowsPieces)
    }

    // MARK: What they are views of

    private static let weights = (0..<3).map { "layers.\($0).weight" }
    private static let biases = (0..<3).map { "layers.\($0).bias" }
    private static let spec = PermutationSpec.perceptron(weights: weights, biases: biases)

    /// Fully connected layers of small numbers, a tie, what is no float, what has no dimensions and what has no elements.
    private static func network(seed: UInt64) throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: seed)
        func floats(_ shape: Shape) throws -> Tensor {
            try Tensor((0..<shape.elementCount).map { _ in Float.random(in: -2...2, using: &generator) }, shape)
        }
        var network = MemoryCheckpoint("network \(seed)")
        let widths = [6, 12, 10, 4]
        for layer in 0..<3 {
            network.add(weights[layer], try floats([widths[layer + 1], widths[layer]]))
            network.add(biases[layer], try floats([widths[layer + 1]]))
        }
        network.add("tied", try network.tensor(weights[2]), tiedTo: weights[2])
        network.add("count", Tensor([41] as [Int64]))
        network.add("scale", try floats(.scalar))
        network.add("nothing", try floats([0, 3]))
        network.values = [NamedValue(name: "step", value: 7), NamedValue(name: "optimizer", value: ["lr": 0.5])]
        return network
    }

    private static func rules() throws -> UniversalSpec {
        try UniversalSpec(mesh: ["dp", "tp"]) {
            Rule("weights", from: "layers.{n}.weight", to: "layers.{n}.weight") { On("tp", .shard(0)) }
            Rule("biases", from: "layers.{n}.bias", to: "layers.{n}.bias") { On("tp", .shard(0)) }
            Rule("others", from: "{name}", to: "{name}")
        }
    }

    private static func sharded(_ base: any CheckpointReader) throws -> ShardedCheckpoint {
        try ShardedCheckpoint(base, spec: rules(), mesh: ["dp": 2, "tp": 2])
    }

    private static func flatRules() throws -> UniversalSpec {
        try UniversalSpec(mesh: ["dp"]) {
            FlatBuffer(
                "flat", over: "dp",
                members: [
                    .init("layers.0.weight", [12, 6]), .init("layers.0.bias", [12]), .init("layers.1.weight", [10, 12]),
                    .init("layers.1.bias", [10]), .init("layers.2.weight", [4, 10]), .init("layers.2.bias", [4]),
                ])
            Rule("flat", from: "layers.{n}.{kind}", to: "layers.{n}.{kind}") { On("dp", .flatten(.buffer)) }
            Rule("others", from: "{name}", to: "{name}")
        }
    }

    /// Saved by dp=3, tp=2, each rank with partial values of its own.
    @Sendable private static func partialFiles() throws -> MemoryStorage {
        let mesh = try DeviceMesh(["dp": 3, "tp": 2])
        let tensors = [
            PlacedTensor(
                name: "gradient", scalarType: .f32, shape: [4, 6],
                layout: try Layout(mesh, ["tp": .shard(0), "dp": .partial(.sum)])),
            PlacedTensor(
                name: "weight", scalarType: .bf16, shape: [4],
                layout: try Layout(mesh, ["dp": .partial(.mean), "tp": .shard(0)])),
            PlacedTensor(name: "plain", scalarType: .i64, shape: [1], layout: .replicated(on: mesh)),
        ]
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "store")
        _ = try ThreadCommunicator.run(ranks: 6) { communicator in
            let rank = Float(communicator.rank)
            var state = try ShardedState(rank: communicator.rank, rankCount: 6, tensors: tensors)
            try state.set(Tensor((0..<12).map { Float($0) + rank / 4 }, [2, 6]), for: "gradient")
            try state.set(Tensor([rank, 1]).converted(to: .bf16), for: "weight")
            try state.set(Tensor([5] as [Int64]), for: "plain")
            state.ties = [("same", "weight")]
            state.values = [NamedValue(name: "step", value: .integer(3))]
            try ShardedStore(store, over: communicator).save(state, step: 1)
        }
        return storage
    }
}
