import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnTesting
import CairnUniversal
import Testing

/// Rules guessed from two shard sets.
@Suite struct InferenceTests {
    private func logical(seed: UInt64) throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: seed)
        var checkpoint = MemoryCheckpoint()
        for layer in 0..<3 {
            try checkpoint.add("layers.\(layer).column", .bf16, [12, 8], using: &generator)
            try checkpoint.add("layers.\(layer).row", .bf16, [8, 12], using: &generator)
            try checkpoint.add("layers.\(layer).gated", .bf16, [24, 8], using: &generator)
            try checkpoint.add("layers.\(layer).qkv", .bf16, [48, 8], using: &generator)
            try checkpoint.add("layers.\(layer).norm", .f32, [8], using: &generator)
        }
        try checkpoint.add("embed", .bf16, [17, 8], using: &generator)
        return checkpoint
    }

    private let truth = try? UniversalSpec(mesh: ["tp"]) {
        Rule("column", from: "layers.{n}.column", to: "layers.{n}.column") { On("tp", .shard(0)) }
        Rule("row", from: "layers.{n}.row", to: "layers.{n}.row") { On("tp", .shard(1)) }
        Rule("gated", from: "layers.{n}.gated", to: "layers.{n}.gated") {
            On("tp", .shard(dimension: 0, sections: .equal(2)))
        }
        Rule("qkv", from: "layers.{n}.qkv", to: "layers.{n}.qkv") {
            On("tp", .shard(dimension: 0, sections: .sizes([24, 12, 12])))
        }
        Rule("norm", from: "layers.{n}.norm", to: "layers.{n}.norm")
        Rule("embed", from: "embed", to: "embed") {
            On("tp", .shard(0))
            Apply(.strip(dimension: 0, extent: 17, multiple: "4*tp.size"))
        }
    }

    @Test func shardsAndAWholeTellTheRules() throws {
        let spec = try #require(truth)
        let original = try logical(seed: 1)
        let whole = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 1]))
        let parts = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 2]))
        let four = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 4]))
        let inferred = try UniversalSpec.infer(parts, whole)
        #expect(inferred.unexplained.isEmpty)
        #expect(inferred.findings.filter(\.isGuess).map(\.rule) == ["embed"])
        #expect(inferred.specification.rules.count == 6)
        #expect(inferred.yaml.contains("  # a guess: sharded over dimension 0 with padding"))
        let read = try UniversalSpec(yaml: inferred.yaml)
        #expect(read == inferred.specification)
        // They hold for a size that was not seen.
        let sections = read.rules.first { $0.name.contains("qkv") }?.placement
        #expect(sections == [On("tp", .shard(dimension: 0, sections: .sizes([24, 12, 12])))])
        for tensor in try GatheredReader(four, spec: read).tensors where tensor.name != "embed" {
            let gathered = try GatheredReader(four, spec: read)
            #expect(try gathered.tensor(tensor.name) == original.tensor(tensor.name), "\(tensor.name)")
        }
    }

    @Test func twoShardedSetsTellPlainFromHalves() throws {
        var spec = try #require(truth)
        spec.rules.removeAll { $0.name == "qkv" || $0.name == "embed" }
        var original = MemoryCheckpoint()
        let all = try logical(seed: 2)
        for tensor in all.tensors where !tensor.name.hasSuffix("qkv") && tensor.name != "embed" {
            original.add(tensor.name, try all.tensor(tensor.name))
        }
        let two = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 2]))
        let four = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 4]))
        let inferred = try UniversalSpec.infer(two, four)
        #expect(inferred.findings.allSatisfy { !$0.isGuess }, "\(inferred.findings)")
        #expect(try difference(GatheredReader(four, spec: inferred.specification), original) == nil)
    }

    @Test func whatDiffersBetweenRanksIsNoReplica() throws {
        var first = MemoryCheckpoint(), second = MemoryCheckpoint(), whole = MemoryCheckpoint()
        first.add("scale", Tensor([1] as [Float]))
        second.add("scale", Tensor([3] as [Float]))
        whole.add("scale", Tensor([2] as [Float]))
        whole.add("only.here", Tensor([2] as [Float]))
        let inferred = try UniversalSpec.infer([first, second], [whole])
        #expect(inferred.unexplained == ["only.here"])
        #expect(inferred.findings.first?.isGuess == true)
        #expect(inferred.specification.rules.first?.placement == [On("tp", .partial(.mean))])
        let mean = try GatheredReader([first, second], spec: inferred.specification)
        #expect(try mean.tensor("scale").elements(as: Float.self) == [2])
    }

    /// A checkpoint that tells its shapes and nothing else.
    private struct ShapesOnly: CheckpointReader {
        let base: MemoryCheckpoint
        var format: String { base.format }
        var source: String { base.source }
        var tensors: [TensorDescription] { base.tensors }
        var values: [NamedValue] { [] }

        func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
            throw CairnError(.inputOutput, "there is no data", .init(tensor: name))
        }
    }

    @Test func shapesAloneTellGuesses() throws {
        let spec = try #require(truth)
        let original = try logical(seed: 4)
        let two = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 2])).map { ShapesOnly(base: $0) }
        let four = try shards(ShardedCheckpoint(original, spec: spec, mesh: ["tp": 4])).map { ShapesOnly(base: $0) }
        let inferred = try UniversalSpec.infer(two, four, readsData: false)
        #expect(inferred.unexplained.isEmpty && inferred.findings.allSatisfy(\.isGuess))
        let named = inferred.specification.rules.map { rule in
            (String(rule.name.split(separator: ".").last ?? ""), rule.placement)
        }
        let placements = Dictionary(named, uniquingKeysWith: { first, _ in first })
        #expect(placements["column"] == [On("tp", .shard(0))] && placements["row"] == [On("tp", .shard(1))])
        #expect(placements["norm"] == [] && placements["qkv"] == [On("tp", .shard(0))])
        #expect(try spec.explain(two, mesh: ["tp": 2]).problems.isEmpty)
        #expect(try inferred.specification.explain(four, mesh: ["tp": 4]).problems.isEmpty)
    }

    @Test func setsOfOneSizeAreRefused() throws {
        let one = try logical(seed: 3)
        #expect(throws: CairnError.self) { try UniversalSpec.infer([one], [one]) }
        #expect(throws: CairnError.self) { try UniversalSpec.infer([], [one]) }
    }
}
