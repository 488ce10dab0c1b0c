import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnTesting
import CairnUniversal
import Testing

/// Every preset on a tiny model: logical to shards and back, on several meshes.
@Suite struct PresetTests {
    private let numbers = TransformerNumbers(
        layers: 4, heads: 8, groups: 4, headDimension: 4, vocabulary: 90, vocabularyMultiple: 4)

    /// Shards, gathers, shards again and gathers again: everything comes back, also between two meshes.
    private func expectRoundTrip(
        _ spec: UniversalSpec, _ logical: MemoryCheckpoint, _ meshes: [[String: Int]], seed: UInt64
    ) throws {
        let read = try UniversalSpec(yaml: spec.yaml)
        #expect(read == spec)
        for sizes in meshes {
            let parts = try shards(ShardedCheckpoint(logical, spec: spec, mesh: sizes))
            let gathered = try GatheredReader(parts, spec: spec, mesh: sizes, verifiesReplicas: true)
            #expect(try difference(gathered, logical) == nil, "seed \(seed), mesh \(sizes)")
            let again = try shards(ShardedCheckpoint(gathered, spec: spec, mesh: sizes))
            for (rank, (one, other)) in zip(parts, again).enumerated() {
                #expect(try difference(one, other) == nil, "seed \(seed), mesh \(sizes), rank \(rank)")
            }
            let explained = try spec.explain(parts, mesh: sizes)
            #expect(explained.problems.isEmpty, "\(explained.problems)")
            #expect(explained.applications.flatMap(\.logical).count == logical.tensors.count)
        }
    }

    private func transformer(_ names: [String: Shape], seed: UInt64) throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: seed)
        var logical = MemoryCheckpoint()
        for (name, shape) in names.sorted(by: { $0.key < $1.key }) {
            try logical.add(name, .bf16, shape, using: &generator)
        }
        logical.values = [NamedValue(name: "iteration", value: 7)]
        return logical
    }

    private let meshes: [[String: Int]] = [
        ["pp": 1, "dp": 1, "tp": 1], ["pp": 2, "dp": 1, "tp": 2], ["pp": 1, "dp": 2, "tp": 4],
        ["pp": 4, "dp": 2, "tp": 1], ["pp": 2, "dp": 1, "tp": 4],
    ]

    @Test(arguments: [1, 2] as [UInt64]) func megatronGPTComesBackFromEveryMesh(seed: UInt64) throws {
        var shapes: [String: Shape] = [
            "embedding.token.weight": [90, 16], "embedding.position.weight": [10, 16], "final_norm.weight": [16],
            "final_norm.bias": [16], "head.weight": [90, 16],
        ]
        for layer in 0..<4 {
            let prefix = "layers.\(layer)."
            for (name, rows) in [("query", 32), ("key", 16), ("value", 16)] {
                shapes[prefix + "attention.\(name).weight"] = [rows, 16]
                shapes[prefix + "attention.\(name).bias"] = [rows]
            }
            shapes[prefix + "attention.projection.weight"] = [16, 32]
            shapes[prefix + "attention.projection.bias"] = [16]
            shapes[prefix + "perceptron.up.weight"] = [64, 16]
            shapes[prefix + "perceptron.up.bias"] = [64]
            shapes[prefix + "perceptron.down.weight"] = [16, 64]
            shapes[prefix + "perceptron.down.bias"] = [16]
            for norm in ["attention.norm", "perceptron.norm"] {
                shapes[prefix + norm + ".weight"] = [16]
                shapes[prefix + norm + ".bias"] = [16]
            }
        }
        let logical = try transformer(shapes, seed: seed)
        for fusesNorms in [true, false] {
            let spec = try UniversalSpec.megatronGPT(numbers, fusesNorms: fusesNorms)
            try expectRoundTrip(spec, logical, meshes, seed: seed)
            let names = try ShardReader(logical, spec: spec, mesh: meshes[1], rank: 0).tensors.map(\.name)
            #expect(names.contains("decoder.layers.1.mlp.linear_fc1.layer_norm_bias") == fusesNorms)
            #expect(names.contains("decoder.layers.1.pre_mlp_layernorm.bias") != fusesNorms)
            // Either spelling is read by the other's rules.
            let other = try UniversalSpec.megatronGPT(numbers, fusesNorms: !fusesNorms)
            let parts = try shards(ShardedCheckpoint(logical, spec: spec, mesh: meshes[1]))
            #expect(try difference(GatheredReader(parts, spec: other, mesh: meshes[1]), logical) == nil)
        }
    }

    @Test func megatronLlamaComesBackFromEveryMesh() throws {
        var shapes: [String: Shape] = [
            "model.embed_tokens.weight": [90, 16], "model.norm.weight": [16], "lm_head.weight": [90, 16],
        ]
        for layer in 0..<4 {
            let prefix = "model.layers.\(layer)."
            shapes[prefix + "self_attn.q_proj.weight"] = [32, 16]
            shapes[prefix + "self_attn.k_proj.weight"] = [16, 16]
            shapes[prefix + "self_attn.v_proj.weight"] = [16, 16]
            shapes[prefix + "self_attn.o_proj.weight"] = [16, 32]
            shapes[prefix + "mlp.gate_proj.weight"] = [24, 16]
            shapes[prefix + "mlp.up_proj.weight"] = [24, 16]
            shapes[prefix + "mlp.down_proj.weight"] = [16, 24]
            shapes[prefix + "input_layernorm.weight"] = [16]
            shapes[prefix + "post_attention_layernorm.weight"] = [16]
        }
        try expectRoundTrip(.megatronLlama(numbers), transformer(shapes, seed: 3), meshes, seed: 3)
        // The same checkpoint on ranks that call everything as it does; heads and words need not divide evenly.
        let plain = try UniversalSpec.llama(layers: 4, headDimension: 4)
        try expectRoundTrip(plain, transformer(shapes, seed: 3), meshes + [["pp": 2, "dp": 1, "tp": 3]], seed: 3)
        let last = try ShardReader(
            transformer(shapes, seed: 3), spec: plain, mesh: ["pp": 4, "dp": 1, "tp": 3], rank: 11)
        #expect(try last.description(of: "model.layers.3.self_attn.k_proj.weight").shape == [4, 16])
        #expect(try last.description(of: "lm_head.weight").shape == [30, 16])
        #expect(!last.tensors.contains { $0.name.hasPrefix("model.layers.2.") || $0.name.contains("embed") })
    }

    @Test func megatronInterleavesQueriesKeysAndValuesByHeadGroup() throws {
        // Rows are numbered: query rows from 0, keys from 100, values from 200.
        var logical = try transformer(
            [
                "embedding.token.weight": [90, 2], "final_norm.weight": [2], "layers.0.perceptron.up.weight": [4, 2],
                "layers.0.perceptron.down.weight": [2, 4], "layers.0.attention.projection.weight": [2, 8],
            ], seed: 4)
        func rows(_ first: Int, _ count: Int) throws -> Tensor {
            try Tensor((0..<count).map { Float(first + $0) }, [count, 1])
        }
        logical.add("layers.0.attention.query.weight", try rows(0, 8))
        logical.add("layers.0.attention.key.weight", try rows(100, 4))
        logical.add("layers.0.attention.value.weight", try rows(200, 4))
        let spec = try UniversalSpec.megatronGPT(
            TransformerNumbers(
                layers: 1, heads: 4, groups: 2, headDimension: 2, vocabulary: 90, vocabularyMultiple: 2))
        let shard = try ShardReader(logical, spec: spec, mesh: ["pp": 1, "dp": 1, "tp": 2], rank: 1)
        // Group 1: queries of heads 2 and 3, then its key, then its value.
        let fused = try shard.tensor("decoder.layers.0.self_attention.linear_qkv.weight")
        #expect(try fused.elements(as: Float.self) == [4, 5, 6, 7, 102, 103, 202, 203])
        #expect(try shard.description(of: "embedding.word_embeddings.weight").shape == [46, 2])
    }

    @Test(arguments: [UniversalSpec.ZeROStage.one, .three]) func zeroComesBackFromEveryMesh(
        stage: UniversalSpec.ZeROStage
    ) throws {
        let parameters = [
            FlatParameter("embed.weight", ["12/tp.size", 5], placement: [On("tp", .shard(0))]),
            FlatParameter("mlp.weight", [3, "8/tp.size"], placement: [On("tp", .shard(1))]),
            FlatParameter("norm.weight", [7]), FlatParameter("scale", []),
        ]
        let shapes: [(String, Shape)] = [
            ("embed.weight", [12, 5]), ("mlp.weight", [3, 8]), ("norm.weight", [7]), ("scale", []),
        ]
        for holdsWeights in [true, false] {
            let spec = try UniversalSpec.deepSpeedZeRO(stage, parameters: parameters, holdsWeights: holdsWeights)
            var generator = SeededGenerator(seed: 5)
            var logical = MemoryCheckpoint()
            for (name, shape) in shapes {
                if holdsWeights { try logical.add(name, .bf16, shape, using: &generator) }
                for moment in ["fp32", "exp_avg", "exp_avg_sq"] {
                    try logical.add("\(name).\(moment)", .f32, shape, using: &generator)
                }
            }
            let meshes = [["dp": 1, "tp": 1], ["dp": 3, "tp": 2], ["dp": 7, "tp": 1], ["dp": 2, "tp": 4]]
            try expectRoundTrip(spec, logical, meshes, seed: 5)
        }
    }

    @Test func zeroBuffersLieAsDeepSpeedLaysThem() throws {
        let spec = try UniversalSpec.deepSpeedZeRO(
            .one, parameters: [FlatParameter("a", [3]), FlatParameter("b", [2, 2])], holdsWeights: false)
        var logical = MemoryCheckpoint()
        for moment in ["fp32", "exp_avg", "exp_avg_sq"] {
            logical.add("a.\(moment)", Tensor([1, 2, 3] as [Float]))
            logical.add("b.\(moment)", try Tensor([4, 5, 6, 7] as [Float], [2, 2]))
        }
        let sharded = try ShardedCheckpoint(logical, spec: spec, mesh: ["dp": 2, "tp": 1])
        let name = "optimizer_state_dict.single_partition_of_fp32_groups.0"
        // Seven elements padded to eight, four a rank; the last rank's padding is left out.
        #expect(try sharded.shard(ofRank: 0).tensor(name).elements(as: Float.self) == [1, 2, 3, 4])
        #expect(try sharded.shard(ofRank: 1).tensor(name).elements(as: Float.self) == [5, 6, 7])
    }

    @Test func fullyShardedComesBackFromEveryMesh() throws {
        var generator = SeededGenerator(seed: 6)
        var logical = MemoryCheckpoint()
        try logical.add("embed.weight", .bf16, [7, 3], using: &generator)
        try logical.add("norm.weight", .f32, [2], using: &generator)
        let meshes = [["dp": 1], ["dp": 2], ["dp": 3], ["dp": 5]]
        try expectRoundTrip(.fullyShardedByRows(), logical, meshes, seed: 6)
        try expectRoundTrip(
            .fullyShardedByRows(hasReplicas: true), logical, meshes.map { $0.merging(["replica": 2]) { $1 } }, seed: 6)
        var flat = MemoryCheckpoint()
        try flat.add("embed.weight", .bf16, [7, 3], using: &generator)
        try flat.add("norm.weight", .bf16, [2], using: &generator)
        let parameters = [FlatParameter("embed.weight", [7, 3]), FlatParameter("norm.weight", [2])]
        for alignment in [1, 8] {
            let spec = try UniversalSpec.fullyShardedFlat(parameters: parameters, alignment: alignment)
            try expectRoundTrip(spec, flat, meshes, seed: 6)
        }
    }

    @Test(arguments: [UniversalSpec.ExpertStorage.separate, .stacked]) func expertsComeBackFromEveryMesh(
        storage: UniversalSpec.ExpertStorage
    ) throws {
        var shapes: [String: Shape] = ["embed.weight": [6, 4]]
        for layer in 0..<2 {
            shapes["layers.\(layer).mlp.router.weight"] = [8, 4]
            for expert in 0..<8 {
                let prefix = "layers.\(layer).mlp.experts.\(expert)."
                shapes[prefix + "w1"] = [12, 4]
                shapes[prefix + "w3"] = [12, 4]
                shapes[prefix + "w2"] = [4, 12]
            }
        }
        let spec = try UniversalSpec.mixtureOfExperts(experts: 8, storage: storage)
        let meshes = [
            ["ep": 1, "dp": 1, "tp": 1], ["ep": 4, "dp": 1, "tp": 2], ["ep": 8, "dp": 2, "tp": 1],
            ["ep": 2, "dp": 2, "tp": 2],
        ]
        try expectRoundTrip(spec, transformer(shapes, seed: 7), meshes, seed: 7)
    }

    @Test(arguments: RulesPreset.all.map(\.name)) func everyPresetReadsBackAndGoesBothWays(name: String) throws {
        let preset = try #require(RulesPreset.all.first { $0.name == name })
        let spec = try preset.specification()
        #expect(try UniversalSpec(yaml: spec.yaml) == spec)
        #expect(try spec.oneWayRules().allSatisfy { $0.hasSuffix("another rule writes its names") })
    }
}
