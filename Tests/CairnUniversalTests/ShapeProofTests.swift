import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnTensor
import CairnTesting
import CairnUniversal
import Testing

/// Rules that take a gated perceptron for a plain one, or split off the wrong rows as queries, fit every shape and mix up rows:
/// what the matrices of a layer prove of each other refuses them.
@Suite struct ShapeProofTests {
    private let numbers = TransformerNumbers(
        layers: 2, heads: 4, groups: 2, headDimension: 4, vocabulary: 10, vocabularyMultiple: 2)

    /// A model under the Transformers library's names, gated or plain.
    private func logical(_ names: [String: Shape], seed: UInt64) throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: seed)
        var logical = MemoryCheckpoint()
        for (name, shape) in names.sorted(by: { $0.key < $1.key }) { try logical.add(name, .f32, shape, using: &generator) }
        return logical
    }

    private func gated(perceptron: [String: Shape]) -> [String: Shape] {
        var shapes: [String: Shape] = ["embedding.token.weight": [10, 8], "final_norm.weight": [8]]
        for layer in 0..<2 {
            let prefix = "layers.\(layer)."
            for (name, rows) in [("query", 16), ("key", 8), ("value", 8)] {
                shapes[prefix + "attention.\(name).weight"] = [rows, 8]
            }
            shapes[prefix + "attention.projection.weight"] = [8, 16]
            for (name, shape) in perceptron { shapes[prefix + "perceptron.\(name).weight"] = shape }
            shapes[prefix + "attention.norm.weight"] = [8]
            shapes[prefix + "perceptron.norm.weight"] = [8]
        }
        return shapes
    }

    private static let meshes: [[String: Int]] = [
        ["pp": 1, "dp": 1, "tp": 2], ["pp": 2, "dp": 1, "tp": 2], ["pp": 1, "dp": 1, "tp": 1],
    ]

    @Test(arguments: meshes) func aGatedPerceptronNeedsTheGatedPreset(mesh: [String: Int]) throws {
        let model = try logical(gated(perceptron: ["gate": [12, 8], "up": [12, 8], "down": [8, 12]]), seed: 1)
        let right = try UniversalSpec.megatronGPT(numbers, isGated: true)
        let wrong = try UniversalSpec.megatronGPT(numbers)
        let parts = try shards(ShardedCheckpoint(model, spec: right, mesh: mesh))
        #expect(try difference(GatheredReader(parts, spec: right, mesh: mesh), model) == nil)
        let problems = try wrong.explain(parts, mesh: mesh).problems
        #expect(problems.count == 1, "\(problems)")
        for hint in ["rule \"up\"", "linear_fc1.weight", "24 rows", "12 columns", "sections: 2", "megatron-gpt-gated"] {
            #expect(problems[0].description.contains(hint), "\(problems)")
        }
        #expect(refusal { _ = try GatheredReader(parts, spec: wrong, mesh: mesh) }?.code == .mismatch)
        // Nor is a whole matrix of both divided as if it were one.
        var fused = MemoryCheckpoint()
        for tensor in model.tensors where !tensor.name.contains(".gate.") {
            let isUp = tensor.name.hasSuffix("up.weight")
            fused.add(tensor.name, isUp ? try Tensor(zeros: .f32, [24, 8]) : try model.tensor(tensor.name))
        }
        #expect(refusal { _ = try ShardedCheckpoint(fused, spec: wrong, mesh: mesh) }?.code == .mismatch)
    }

    @Test(arguments: meshes) func aPlainPerceptronNeedsThePlainPreset(mesh: [String: Int]) throws {
        let model = try logical(gated(perceptron: ["up": [12, 8], "down": [8, 12]]), seed: 2)
        let right = try UniversalSpec.megatronGPT(numbers)
        let parts = try shards(ShardedCheckpoint(model, spec: right, mesh: mesh))
        #expect(try difference(GatheredReader(parts, spec: right, mesh: mesh), model) == nil)
        for wrong in [try UniversalSpec.megatronGPT(numbers, isGated: true), try .megatronLlama(numbers)] {
            let problems = try wrong.explain(parts, mesh: mesh).problems
            #expect(problems.contains { $0.description.contains("not gated") }, "\(problems)")
        }
    }

    /// Four heads in two groups have as many rows as three in three.
    @Test func queriesAreAsManyAsTheHeadsOutputs() throws {
        let mesh = ["pp": 1, "dp": 1, "tp": 1]
        let four = TransformerNumbers(layers: 2, heads: 6, groups: 1, headDimension: 4, vocabulary: 10, vocabularyMultiple: 2)
        let model = try logical(gated(perceptron: ["up": [12, 8], "down": [8, 12]]), seed: 3)
        let parts = try shards(ShardedCheckpoint(model, spec: .megatronGPT(numbers), mesh: mesh))
        let problems = try UniversalSpec.megatronGPT(four).explain(parts, mesh: mesh).problems
        #expect(problems.contains { $0.description.contains("rows as queries") }, "\(problems)")
    }

    /// Rows that no rank shards by halves are in their order, whatever the names.
    @Test func plainChunksOfRowsStayAllowed() throws {
        var model = MemoryCheckpoint()
        var generator = SeededGenerator(seed: 4)
        try model.add("layers.0.mlp.linear_fc1.weight", .f32, [24, 8], using: &generator)
        try model.add("layers.0.mlp.linear_fc2.weight", .f32, [8, 12], using: &generator)
        let spec = try UniversalSpec.fullyShardedByRows()
        let parts = try shards(ShardedCheckpoint(model, spec: spec, mesh: ["dp": 2]))
        #expect(try spec.explain(parts, mesh: ["dp": 2]).problems.isEmpty)
        #expect(try difference(GatheredReader(parts, spec: spec, mesh: ["dp": 2]), model) == nil)
    }

    /// Codes with scales are moved by rules, and not cast.
    @Test func codesAreNotCastByRules() throws {
        var shard = MemoryCheckpoint()
        shard.add("l.weight", try Tensor(zeros: .f8e4m3, [4, 4]))
        shard.add("l.weight_scale_inv", try Tensor(zeros: .f32, [1, 1]))
        let moving = try UniversalSpec(mesh: ["tp"]) { Rule("all", from: "{name**}", to: "model.{name}") }
        #expect(try moving.explain([shard]).problems.isEmpty)
        let casting = try UniversalSpec(mesh: ["tp"]) {
            Rule("all", from: "{name**}", to: "model.{name}") { Apply(.cast(from: .f8e4m3, to: .f32)) }
        }
        let problems = try casting.explain([shard]).problems
        #expect(
            problems.contains { $0.description.contains("weight_scale_inv") && $0.description.contains("codes") }, "\(problems)")
    }
}
