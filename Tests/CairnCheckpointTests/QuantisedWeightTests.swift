import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnTensor
import CairnTesting
import Testing

/// Weights in codes are known by names and types together, and nothing else is taken for one.
@Suite struct QuantisedWeightTests {
    struct Case: Sendable {
        let scheme: QuantisationScheme
        let weight: String
        let tensors: [(String, ScalarType)]
        var configuration: String?

        init(_ scheme: QuantisationScheme, _ weight: String, _ tensors: [(String, ScalarType)], _ configuration: String? = nil) {
            self.scheme = scheme
            self.weight = weight
            self.tensors = tensors
            self.configuration = configuration
        }
    }

    private static let cases: [Case] = [
        Case(.scaledBlocks, "l.weight", [("l.weight", .f8e4m3), ("l.weight_scale_inv", .f32)]),
        Case(.scaledBlocks, "l.weight", [("l.weight", .f8e4m3), ("l.weight_scale_inv", .f8e8m0)]),
        Case(
            .scaledBlocks, "e.gate_up_proj", [("e.gate_up_proj", .f8e4m3), ("e.gate_up_proj_scale_inv", .f32)]),
        Case(
            .scaledFloats, "l.weight",
            [("l.weight", .f8e4m3), ("l.weight_scale", .bf16)],
            #"{"quantization_config": {"quant_method": "compressed-tensors"}}"#),
        Case(.scaledFloats, "l.weight", [("l.weight", .f8e5m2), ("l.scale_weight", .f32)]),
        Case(.scaledFloats, "l.weight", [("l.weight", .f8e4m3), ("l.scale", .f8e8m0)]),
        Case(.scaledIntegers, "l.weight", [("l.weight", .i8), ("l.weight_scale", .bf16)]),
        Case(.int8, "l.weight", [("l.weight", .i8), ("l.SCB", .f32), ("l.weight_format", .u8)]),
        Case(
            .nf4, "l.weight",
            [
                ("l.weight", .u8), ("l.weight.absmax", .u8), ("l.weight.nested_absmax", .f32),
                ("l.weight.nested_quant_map", .f32), ("l.weight.quant_map", .f32),
                ("l.weight.quant_state.bitsandbytes__nf4", .u8),
            ]),
        Case(
            .fp4, "l.weight",
            [("l.weight", .bf16), ("l.weight.absmax", .f32), ("l.weight.quant_state.bitsandbytes__fp4", .u8)]),
        Case(
            .gptq, "l.weight", [("l.g_idx", .i32), ("l.qweight", .i32), ("l.qzeros", .i32), ("l.scales", .f16)]),
        Case(
            .awq, "l.weight", [("l.qweight", .i32), ("l.qzeros", .i32), ("l.scales", .f16)],
            #"{"quantization_config": {"quant_method": "awq", "bits": 4}}"#),
        Case(
            .packedIntegers, "l.weight",
            [("l.weight_packed", .i32), ("l.weight_scale", .bf16), ("l.weight_shape", .i64), ("l.weight_zero_point", .i32)]),
        Case(.mxfp4, "l.weight", [("l.weight_packed", .u8), ("l.weight_scale", .u8)]),
        Case(.mxfp4, "e.gate_up_proj", [("e.gate_up_proj_blocks", .u8), ("e.gate_up_proj_scales", .u8)]),
        Case(
            .nvfp4, "l.weight", [("l.weight_global_scale", .f32), ("l.weight_packed", .u8), ("l.weight_scale", .f8e4m3)]),
        Case(
            .nvfp4, "l.weight",
            [("l.input_scale", .f32), ("l.weight", .u8), ("l.weight_scale", .f8e4m3), ("l.weight_scale_2", .f32)]),
        Case(
            .torchao, "l.weight", [("l._weight_qdata", .i8), ("l._weight_scale", .f32), ("l._weight_zero_point", .i8)]),
        Case(.hqq, "l.weight", [("l.W_q", .u8), ("l.scale", .f16), ("l.zero", .f16)]),
        Case(.quanto, "l.weight", [("l.weight._data", .i8), ("l.weight._scale", .bf16)]),
        Case(.aqlm, "l.weight", [("l.codebooks", .f16), ("l.codes", .i16), ("l.scales", .f16)]),
        // The scales are in another file: names of codes that nothing else has, or the configuration, tell all the same.
        Case(.packedIntegers, "l.weight", [("l.weight_packed", .i32)]),
        Case(
            .configured, "l.weight", [("l.weight", .f8e4m3)], #"{"quantization_config": {"quant_method": "fp8"}}"#),
    ]

    private static func checkpoint(_ tensors: [(String, ScalarType)]) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint("model")
        for (name, type) in tensors { checkpoint.add(name, try Tensor(zeros: type, [4, 4])) }
        return checkpoint
    }

    private static func configuration(_ text: String?) throws -> ModelConfiguration? {
        try text.map { try ModelConfiguration(json: Array($0.utf8), file: "config.json") }
    }

    @Test(arguments: cases.indices) func everySchemeIsKnownWithAllOfItsParts(index: Int) throws {
        let own = Self.cases[index]
        var checkpoint = try Self.checkpoint(own.tensors)
        checkpoint.add("norm.weight", try Tensor(zeros: .bf16, [4]))
        let found = QuantisedWeights(in: checkpoint.tensors, configuration: try Self.configuration(own.configuration))
        #expect(found.weights.map(\.scheme) == [own.scheme], "\(found.weights)")
        #expect(found.weights.first?.name == own.weight)
        let parts = own.tensors.map(\.0).sorted()
        #expect(found.weights.first?.parts.sorted() == parts, "\(found.weights)")
        let error = refusal { try found.refuse("an average", of: "model") }
        #expect(error?.code == .unsupported && "\(error!)".contains(own.scheme.rawValue), "\(error as Any)")
        // What is not part may be computed with.
        try found.refuse("an average", of: "model") { $0 == "norm.weight" }
        for part in parts { #expect(refusal { try found.refuse("an average", of: "m") { $0 == part } } != nil) }
        // Each part that is left out while others stay is a loss; all or none is not a loss.
        #expect(found.lossNote { _ in true } == nil && found.lossNote { $0 == "norm.weight" } == nil)
        for part in parts where parts.count > 1 {
            let note = try #require(found.lossNote { $0 != part })
            #expect(note.contains(part) && note.contains(own.scheme.rawValue), "\(note)")
        }
    }

    @Test(
        arguments: [
            [("l.weight", .f8e4m3)], [("l.weight", .bf16), ("l.weight_scale", .f32)], [("l.weight", .f32), ("l.scale", .f32)],
            [("attention.W_q", .f32), ("attention.scale", .f32)], [("attention.W_q", .i8)], [("codes", .i32)],
            [("mask", .u8), ("scale", .f32)], [("w_blocks", .u8)], [("tokens", .i32), ("scales", .f16)],
            [("qweight", .f32), ("scales", .f32)], [("x.absmax", .f32), ("x", .f32)], [("embed.weight", .i8)],
            [("l.norm.weight", .bf16), ("l.k_scale", .f32), ("l.v_scale", .f32)], [("position_ids", .i64)],
        ] as [[(String, ScalarType)]]) func whatIsNumbersStaysNumbers(tensors: [(String, ScalarType)]) throws
    {
        #expect(QuantisedWeights(in: try Self.checkpoint(tensors).tensors).isEmpty, "\(tensors)")
    }

    /// A configuration may speak of a model whose weights were made numbers again.
    @Test func aConfigurationAloneMakesNoCodes() throws {
        let configuration = try Self.configuration(#"{"quantization_config": {"quant_method": "fp8"}}"#)
        let checkpoint = try Self.checkpoint([("l.weight", .bf16), ("ids", .i64), ("mask", .u8)])
        #expect(QuantisedWeights(in: checkpoint.tensors, configuration: configuration).isEmpty)
    }

    @Test(arguments: [ScalarType.bf16, .f32]) func theirTypesAreNotConverted(type: ScalarType) throws {
        for own in Self.cases where own.configuration == nil {
            let checkpoint = try Self.checkpoint(own.tensors + [("norm.weight", .f16)])
            let error = refusal { _ = try CastReader(checkpoint, to: type) }
            #expect(error?.code == .unsupported && error?.message.contains("codes") == true, "\(own.scheme) \(error as Any)")
            #expect(try CastReader(checkpoint, to: type, patterns: ["norm.*"]).description(of: "norm.weight").scalarType == type)
        }
        let plain = try Self.checkpoint([("l.weight", .f8e4m3)])
        #expect(try CastReader(plain, to: type).description(of: "l.weight").scalarType == type)
    }

    @Test func partsThatMeanNothingTogetherWithTheirOwnersAreCopied() throws {
        for own in Self.cases {
            let checkpoint = try Self.checkpoint(own.tensors)
            let renamed = try RenamedReader(checkpoint, rules: [RenameRule("*", to: "model.$1")])
            #expect(renamed.tensors.map(\.scalarType) == checkpoint.tensors.map(\.scalarType))
            let found = QuantisedWeights(in: renamed.tensors, configuration: try Self.configuration(own.configuration))
            #expect(found.weights.map(\.scheme) == [own.scheme])
        }
    }
}
