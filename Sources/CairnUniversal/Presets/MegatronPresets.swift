/// The numbers of a transformer that the rules of its shards depend on.
public struct TransformerNumbers: Sendable, Hashable {
    public var layers: Int
    /// Query heads.
    public var heads: Int
    /// Groups of query heads that share a key and a value: as many as heads without grouping.
    public var groups: Int
    /// Elements of a head.
    public var headDimension: Int
    /// Words of the vocabulary, without padding.
    public var vocabulary: Int
    /// What the vocabulary is padded to a multiple of on each tensor-parallel rank: 128 unless told otherwise.
    public var vocabularyMultiple: Int

    public init(
        layers: Int, heads: Int, groups: Int, headDimension: Int, vocabulary: Int, vocabularyMultiple: Int = 128
    ) {
        self.layers = layers
        self.heads = heads
        self.groups = groups
        self.headDimension = headDimension
        self.vocabulary = vocabulary
        self.vocabularyMultiple = vocabularyMultiple
    }

    fileprivate var parameters: KeyValuePairs<String, Int> {
        [
            "layers": layers, "heads": heads, "groups": groups, "head_dim": headDimension, "vocab": vocabulary,
            "vocab_multiple": vocabularyMultiple,
        ]
    }
}

extension UniversalSpec {
    /// A GPT of Megatron-Core with tensor, pipeline and data parallelism; logical names are plain.
    ///
    /// The query-key-value weight is interleaved by head group and is split in three; column-parallel weights are
    /// sharded over their rows, row-parallel ones over their columns; the vocabulary is padded; layers are numbered
    /// from 0 on each pipeline stage.
    ///
    /// - Parameters:
    ///   - isGated: Whether the perceptron is gated (`swiglu`): its first matrix is gate and up in one, of which each
    ///     tensor-parallel rank holds a part of both. Shapes that say otherwise are refused.
    ///   - fusesNorms: How sharding names the norms: as Transformer Engine's layers do, which hold them, or as modules of
    ///     their own. Both spellings are read.
    /// Source: Megatron-Core's `GPTModel`, `ColumnParallelLinear`, `RowParallelLinear`, `SelfAttention`.
    public static func megatronGPT(
        _ numbers: TransformerNumbers, isGated: Bool = false, fusesNorms: Bool = true
    ) throws -> UniversalSpec {
        var spec = try megatron(numbers, .plain, isGated: isGated, fusesNorms: fusesNorms)
        spec.summary = "A GPT of Megatron-Core with tensor, pipeline and data parallelism"
            + (isGated ? ", and with a gated perceptron." : ".")
        return spec
    }

    /// A Llama of Megatron-Core; logical names are those of the Transformers library, with gate and up apart.
    ///
    /// Read forwards it turns Megatron's shards into that library's checkpoint, backwards the other way.
    ///
    /// - Parameter fusesNorms: As for ``megatronGPT(_:isGated:fusesNorms:)``.
    public static func megatronLlama(_ numbers: TransformerNumbers, fusesNorms: Bool = true) throws -> UniversalSpec {
        var spec = try megatron(numbers, .llama, isGated: true, fusesNorms: fusesNorms)
        spec.summary = "A Llama of Megatron-Core under the names of the Transformers library."
        return spec
    }

    private static func megatron(
        _ numbers: TransformerNumbers, _ names: TransformerNames, isGated: Bool, fusesNorms: Bool
    ) throws -> UniversalSpec {
        /// One of two spellings of the same names.
        func spelling(_ rule: Rule, isWritten: Bool) -> Rule {
            isWritten ? rule.optional : rule.optional.forGatheringOnly
        }
        /// Layers are numbered from 0 on each stage.
        func global(_ name: String, _ end: String) -> String {
            name.split(separator: "{n}", omittingEmptySubsequences: false).joined(
                separator: "{n + pp*layers/pp.size}") + end
        }
        let layer = "decoder.layers.{n:0..<layers/pp.size}."
        let kind = ".{kind:weight|bias}"
        let query: IntegerExpression = "heads/groups*head_dim"
        return try UniversalSpec(mesh: ["pp", "dp", "tp"], parameters: numbers.parameters) {
            Rule("embedding", from: "embedding.word_embeddings.weight", to: names.embedding + ".weight") {
                On("pp", .present(on: [0]))
                On("tp", .shard(0))
                Apply(.strip(dimension: 0, extent: "vocab", multiple: "vocab_multiple*tp.size"))
            }
            Rule("positions", from: "embedding.position_embeddings.weight", to: "embedding.position.weight") {
                On("pp", .present(on: [0]))
            }.optional
            Rule(
                "qkv", from: layer + "self_attention.linear_qkv" + kind,
                to: [global(names.query, ".{kind}"), global(names.key, ".{kind}"), global(names.value, ".{kind}")]
            ) {
                On("tp", .shard(0, unit: "(heads/groups + 2)*head_dim"))
                Apply(.split(dimension: 0, sizes: [query, "head_dim", "head_dim"], groups: "groups"))
            }
            Rule(
                "projection", from: layer + "self_attention.linear_proj.weight",
                to: global(names.projection, ".weight")
            ) { On("tp", .shard(1)) }
            Rule(
                "projection bias", from: layer + "self_attention.linear_proj.bias",
                to: global(names.projection, ".bias")
            ).optional
            if isGated {
                Rule(
                    "gate and up", from: layer + "mlp.linear_fc1" + kind,
                    to: [global(names.gate, ".{kind}"), global(names.up, ".{kind}")]
                ) {
                    On("tp", .shard(dimension: 0, sections: .equal(2)))
                    Apply(.split(dimension: 0))
                }
            } else {
                Rule("up", from: layer + "mlp.linear_fc1" + kind, to: global(names.up, ".{kind}")) {
                    On("tp", .shard(0))
                }
            }
            Rule("down", from: layer + "mlp.linear_fc2.weight", to: global(names.down, ".weight")) {
                On("tp", .shard(1))
            }
            Rule("down bias", from: layer + "mlp.linear_fc2.bias", to: global(names.down, ".bias")).optional
            for (name, plain, fused, logical) in [
                ("attention norm", "input_layernorm", "self_attention.linear_qkv", names.attentionNorm),
                ("perceptron norm", "pre_mlp_layernorm", "mlp.linear_fc1", names.perceptronNorm),
            ] {
                spelling(
                    Rule(name, from: layer + plain + kind, to: global(logical, ".{kind}")), isWritten: !fusesNorms)
                spelling(
                    Rule(
                        "fused " + name, from: layer + fused + ".layer_norm_{kind:weight|bias}",
                        to: global(logical, ".{kind}")),
                    isWritten: fusesNorms)
            }
            Rule("final norm", from: "decoder.final_layernorm" + kind, to: names.finalNorm + ".{kind}") {
                On("pp", .present(on: ["pp.size - 1"]))
            }
            Rule("head", from: "output_layer.weight", to: names.head + ".weight") {
                On("pp", .present(on: ["pp.size - 1"]))
                On("tp", .shard(0))
                Apply(.strip(dimension: 0, extent: "vocab", multiple: "vocab_multiple*tp.size"))
            }.optional
        }
    }
}
