/// A specification that comes with the library, with small numbers in it to be replaced.
public struct RulesPreset: Sendable {
    /// How it is asked for: `megatron-gpt`.
    public let name: String
    /// What it is for.
    public let summary: String
    private let make: @Sendable () throws -> UniversalSpec

    init(_ name: String, _ summary: String, _ make: @escaping @Sendable () throws -> UniversalSpec) {
        self.name = name
        self.summary = summary
        self.make = make
    }

    /// The specification, with numbers of a small model.
    public func specification() throws -> UniversalSpec { try make() }

    /// All of them.
    public static let all: [RulesPreset] = [
        RulesPreset("megatron-gpt", "a GPT of Megatron-Core: tp, pp, dp") { try .megatronGPT(sampleNumbers) },
        RulesPreset("megatron-gpt-gated", "the same with a gated perceptron (swiglu): gate and up apart") {
            try .megatronGPT(sampleNumbers, isGated: true)
        },
        RulesPreset("megatron-llama", "a Llama of Megatron-Core under the names of the Transformers library") {
            try .megatronLlama(sampleNumbers)
        },
        RulesPreset("llama", "a Llama under the names of the Transformers library on both sides: tp, pp, dp") {
            try .llama(layers: sampleNumbers.layers, headDimension: sampleNumbers.headDimension)
        },
        RulesPreset("deepspeed-zero", "DeepSpeed ZeRO-1 and -2: flat optimizer state over dp after tp") {
            try .deepSpeedZeRO(.one, parameters: sampleParameters)
        },
        RulesPreset("deepspeed-zero3", "DeepSpeed ZeRO-3: each parameter flattened over dp") {
            try .deepSpeedZeRO(.three, parameters: sampleParameters, holdsWeights: false)
        },
        RulesPreset("fsdp", "PyTorch FSDP2: every tensor chunked over its first dimension") {
            try .fullyShardedByRows()
        },
        RulesPreset("fsdp-flat", "PyTorch FSDP1: one flat parameter over dp") {
            try .fullyShardedFlat(
                parameters: [FlatParameter("embed.weight", [96, 16]), FlatParameter("norm.weight", [16])])
        },
        RulesPreset("moe", "a mixture of experts: ep, dp, tp") { try .mixtureOfExperts(experts: 8) },
        RulesPreset("moe-stacked", "the same with the experts of a rank in one tensor") {
            try .mixtureOfExperts(experts: 8, storage: .stacked)
        },
    ]

    private static let sampleNumbers = TransformerNumbers(
        layers: 4, heads: 8, groups: 4, headDimension: 4, vocabulary: 90, vocabularyMultiple: 4)

    private static let sampleParameters = [
        FlatParameter("embed.weight", ["96/tp.size", 16], placement: [On("tp", .shard(0))]),
        FlatParameter("mlp.weight", [16, "64/tp.size"], placement: [On("tp", .shard(1))]),
        FlatParameter("norm.weight", [16]),
    ]
}
