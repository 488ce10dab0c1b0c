import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

/// Specifications of networks leave nothing behind, and believe no number that shapes or a configuration contradict.
@Suite struct NetworkSpecifications {
    private static func configuration(_ text: String) throws -> ModelConfiguration {
        try ModelConfiguration(json: Array(text.utf8), file: "config.json")
    }

    @Test(arguments: TinyNetwork.all.indices) func everyFamilyComputesTheSameInAnyOrder(index: Int) throws {
        let network = TinyNetwork.all[index]
        let model = try network.checkpoint(seed: UInt64(60 + index))
        let configuration = try Self.configuration(network.configuration)
        for includesResidual in [true, false] {
            let spec = try PermutationSpec.llama(
                of: model, includesResidual: includesResidual, configuration: configuration)
            try spec.requireEveryTensor(in: model)
            #expect(spec.labels.contains("residual") == includesResidual)
            var generator = SeededGenerator(seed: UInt64(80 + index))
            let deviations = try spec.check(model, tolerance: 1e-9, generator: &generator, evaluating: network.outputs)
            #expect(deviations.isEmpty, "\(network.family) \(deviations)")
            #expect(try PermutationSpec(json: spec.json, file: "units.json") == spec)
        }
    }

    @Test(arguments: TinyNetwork.all.indices) func noTensorMayBeForgotten(index: Int) throws {
        let network = TinyNetwork.all[index]
        let model = try network.checkpoint(seed: UInt64(60 + index))
        let spec = try PermutationSpec.llama(of: model, configuration: Self.configuration(network.configuration))
        for tensor in model.tensors where tensor.tiedTo == nil {
            guard spec.axes[tensor.name]?.contains(where: { $0 != nil }) == true else { continue }
            var lacking = spec
            lacking.axes[tensor.name] = nil
            lacking.axes["lm_head.weight"] = network.isTied ? nil : lacking.axes["lm_head.weight"]
            for (label, lists) in lacking.stacks {
                lacking.stacks[label] = lists.filter { !$0.contains(tensor.name) }
            }
            let error = refusal { try lacking.requireEveryTensor(in: model) }
            #expect(error?.code == .unsupported && "\(error!)".contains(tensor.name), "\(tensor.name) \(error as Any)")
            // What is named as fixed was thought of.
            lacking.axes[tensor.name] = tensor.shape.extents.map { _ in nil }
            try lacking.requireEveryTensor(in: model)
        }
    }

    @Test func plantedOrdersOfAllFamiliesAreFound() throws {
        for (index, network) in TinyNetwork.all.enumerated() {
            let model = try network.checkpoint(seed: UInt64(60 + index))
            let spec = try PermutationSpec.llama(
                of: model, includesResidual: false, configuration: Self.configuration(network.configuration))
            var generator = SeededGenerator(seed: UInt64(90 + index))
            let planted = try UnitPermutations(randomFor: spec, in: model, using: &generator)
            let moved = try PermutedReader(model, planted, by: spec)
            let found = try WeightMatching(spec).match(moved, to: model, using: &generator)
            let back = try PermutedReader(moved, found.permutations, by: spec)
            for tensor in model.tensors {
                #expect(try back.tensor(tensor.name) == model.tensor(tensor.name), "\(network.family) \(tensor.name)")
            }
        }
    }

    @Test func whatIsNotKnownIsRefusedByItsName() throws {
        let network = TinyNetwork.all[0]
        for (name, shape) in [
            ("model.layers.1.extra_norm.weight", [8]), ("model.layers.0.self_attn.sinks", [4]),
            ("model.layers.0.mlp.experts.gate_up_proj", [3, 20, 8]), ("adapter.weight", [5, 5]),
        ] as [(String, Shape)] {
            var model = try network.checkpoint(seed: 1)
            model.add(name, try Tensor(zeros: .f32, shape))
            let error = refusal { _ = try PermutationSpec.llama(of: model, headCount: 4, keyHeadCount: 2) }
            #expect(error?.code == .unsupported && error?.context.tensor == name, "\(error as Any)")
        }
        let model = try network.checkpoint(seed: 1)
        for type in ["gpt_oss", "deepseek_v3", "bert"] {
            let configuration = try Self.configuration(#"{"model_type": "\#(type)"}"#)
            let error = refusal {
                _ = try PermutationSpec.llama(of: model, headCount: 4, keyHeadCount: 2, configuration: configuration)
            }
            #expect(error?.code == .unsupported && "\(error!)".contains(type), "\(error as Any)")
        }
    }

    /// Four heads of three elements, two of keys; a residual stream of eight.
    @Test(
        arguments: [
            (8, 2, nil, "rows"), (2, 2, nil, "rows"), (5, nil, nil, "12"), (4, 4, nil, "6 rows"), (4, nil, nil, "--key-heads"),
            (0, nil, nil, "heads"), (nil, nil, nil, "--heads"), (-1, 1, nil, "heads"), (4, 0, nil, "6 rows"),
            (2, 1, #"{"num_attention_heads": 4}"#, "num_attention_heads 4"),
            (nil, 1, #"{"num_attention_heads": 4, "num_key_value_heads": 2}"#, "num_key_value_heads 2"),
            (nil, nil, #"{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 3}"#, "3 elements"),
            (nil, nil, #"{"num_attention_heads": 4, "num_key_value_heads": 4}"#, "6 rows"),
            (nil, nil, #"{"num_attention_heads": 4, "head_dim": 3, "hidden_size": 12}"#, "hidden_size 12"),
        ] as [(Int?, Int?, String?, String)])
    func numbersThatContradictShapesOrConfigurationAreRefused(
        heads: Int?, keyHeads: Int?, configuration: String?, hint: String
    ) throws {
        let model = try TinyNetwork.all[0].checkpoint(seed: 1)
        let error = refusal {
            _ = try PermutationSpec.llama(
                of: model, headCount: heads, keyHeadCount: keyHeads,
                configuration: configuration.map { try Self.configuration($0) })
        }
        #expect(error.map { "\($0)".contains(hint) } == true, "\(error as Any)")
    }

    @Test func aConfigurationLeavesOutWhatShapesTell() throws {
        let model = try TinyNetwork.all[0].checkpoint(seed: 1)
        let said = try PermutationSpec.llama(of: model, headCount: 4, keyHeadCount: 2)
        for text in [
            #"{"num_attention_heads": 4, "head_dim": 3}"#,
            #"{"num_attention_heads": 4, "head_dim": 3, "num_key_value_heads": null}"#,
        ] {
            #expect(try PermutationSpec.llama(of: model, configuration: Self.configuration(text)) == said)
        }
        // A norm of each head shows how wide heads are.
        let normed = try TinyNetwork(family: "qwen3", headNorms: .ofEachHead).checkpoint(seed: 1)
        let error = refusal { _ = try PermutationSpec.llama(of: normed, headCount: 2, keyHeadCount: 1) }
        #expect(error?.code == .mismatch && "\(error!)".contains("3 elements"), "\(error as Any)")
    }

    @Test(arguments: [
        "[]", #"{"model_type": 3}"#, #"{"num_attention_heads": "4"}"#, #"{"head_dim": 2.5}"#, "{", "",
    ]) func whatIsNoConfigurationIsRefused(text: String) throws {
        let error = refusal { _ = try Self.configuration(text) }
        #expect(error?.code == .malformed && error?.context.file == "config.json", "\(error as Any)")
    }

    @Test func sectionsMayDifferInWidth() throws {
        let axis = PermutationSpec.Axis("heads", widths: [4, 2, 2])
        #expect(PermutationSpec.Axis("heads", widths: [3, 3]) == PermutationSpec.Axis("heads", width: 3, repeats: 2))
        var model = MemoryCheckpoint("model", isMapped: true)
        model.add("qkv", try Tensor((0..<16).map(Float.init), [16]))
        let spec = PermutationSpec(axes: ["qkv": [axis]])
        #expect(try spec.unitCounts(in: model) == ["heads": 2])
        let moved = try PermutedReader(model, UnitPermutations(["heads": [1, 0]]), by: spec)
        #expect(try moved.floats("qkv") == [4, 5, 6, 7, 0, 1, 2, 3, 10, 11, 8, 9, 14, 15, 12, 13].map(Float.init))
        let text = #"{"schema": "cairn-permutations/1", "axes": {"qkv": [{"label": "heads", "widths": [4, 2, 2]}]}}"#
        #expect(try PermutationSpec(json: Array(text.utf8), file: "units.json") == spec)
        #expect(try PermutationSpec(json: spec.json, file: "units.json") == spec)
        for wrong in [
            #"{"label": "h", "widths": []}"#, #"{"label": "h", "widths": [1, 0]}"#, #"{"label": "h", "widths": [1], "width": 2}"#,
            #"{"label": "h", "widths": 2}"#,
        ] {
            let document = #"{"schema": "cairn-permutations/1", "axes": {"qkv": [\#(wrong)]}}"#
            let error = refusal { _ = try PermutationSpec(json: Array(document.utf8), file: "units.json") }
            #expect(error?.code == .malformed, "\(wrong)")
        }
        let huge = PermutationSpec(axes: ["qkv": [.init("heads", widths: [.max, .max, 1])]])
        #expect(refusal { _ = try huge.unitCounts(in: model) }?.code == .mismatch)
    }
}
