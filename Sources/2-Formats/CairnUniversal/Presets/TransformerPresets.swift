/// The numbers of a transformer that the rules of its shards depend on.
public struct TransformerNumbers: Sendable, Hashable {
    package var layers: Int
    /// Query heads.
    package var heads: Int
    /// Groups of query heads that share a key and a value: as many as heads without grouping.
    package var groups: Int
    /// Elements of a head.
    package var headDimension: Int
    /// Words of the vocabulary, without padding.
    package var vocabulary: Int
    /// What the vocabulary is padded to a multiple of on each tensor-parallel rank: 128 unless told otherwise.
    package var vocabularyMultiple: Int

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
        spec.summary =
            "A GPT of Megatron-Core with tensor, pipeline and data parallelism"
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

/// What the parameters of a transformer are called in a logical checkpoint; `{n}` is the layer.
struct TransformerNames: Sendable {
    var embedding: String
    var query: String
    var key: String
    var value: String
    var projection: String
    var gate: String
    var up: String
    var down: String
    var attentionNorm: String
    var perceptronNorm: String
    var finalNorm: String
    var head: String

    /// As the Transformers library calls Llama's.
    static let llama = TransformerNames(
        embedding: "model.embed_tokens", query: "model.layers.{n}.self_attn.q_proj",
        key: "model.layers.{n}.self_attn.k_proj", value: "model.layers.{n}.self_attn.v_proj",
        projection: "model.layers.{n}.self_attn.o_proj", gate: "model.layers.{n}.mlp.gate_proj",
        up: "model.layers.{n}.mlp.up_proj", down: "model.layers.{n}.mlp.down_proj",
        attentionNorm: "model.layers.{n}.input_layernorm", perceptronNorm: "model.layers.{n}.post_attention_layernorm",
        finalNorm: "model.norm", head: "lm_head")

    /// Plain names, of a GPT whose perceptron has one matrix up.
    static let plain = TransformerNames(
        embedding: "embedding.token", query: "layers.{n}.attention.query", key: "layers.{n}.attention.key",
        value: "layers.{n}.attention.value", projection: "layers.{n}.attention.projection",
        gate: "layers.{n}.perceptron.gate", up: "layers.{n}.perceptron.up", down: "layers.{n}.perceptron.down",
        attentionNorm: "layers.{n}.attention.norm", perceptronNorm: "layers.{n}.perceptron.norm",
        finalNorm: "final_norm", head: "head")
}

extension UniversalSpec {
    /// A Llama under the names of the Transformers library, on the ranks too: queries, keys, values, gate, up and the
    /// vocabulary sharded by rows, projection and down by columns, layers by pipeline stages.
    ///
    /// Nothing is renamed or fused, so `cairn plan` and `cairn reshard` take it as well. Queries, keys and values are
    /// dealt out by whole heads, and rows of the vocabulary one by one: neither has to divide evenly.
    ///
    /// Source: the tensor-parallel plan of the Transformers library's `LlamaConfig` (`base_model_tp_plan`).
    public static func llama(layers: Int, headDimension: Int) throws -> UniversalSpec {
        let layer = "model.layers.{n:pp*layers/pp.size..<(pp + 1)*layers/pp.size}."
        let target = "model.layers.{n}."
        var spec = try UniversalSpec(
            mesh: ["pp", "dp", "tp"], parameters: ["layers": layers, "head_dim": headDimension]
        ) {
            Rule("embedding", from: "model.embed_tokens.weight", to: "model.embed_tokens.weight") {
                On("pp", .present(on: [0]))
                On("tp", .shard(0, .balanced))
            }
            Rule(
                "heads", from: layer + "self_attn.{m:q_proj|k_proj|v_proj}.{kind:weight|bias}",
                to: target + "self_attn.{m}.{kind}"
            ) { On("tp", .shard(0, .balanced, unit: "head_dim")) }
            Rule("projection", from: layer + "self_attn.o_proj.weight", to: target + "self_attn.o_proj.weight") {
                On("tp", .shard(1, .balanced, unit: "head_dim"))
            }
            Rule(
                "gate and up", from: layer + "mlp.{m:gate_proj|up_proj}.{kind:weight|bias}",
                to: target + "mlp.{m}.{kind}"
            ) { On("tp", .shard(0, .balanced)) }
            Rule("down", from: layer + "mlp.down_proj.weight", to: target + "mlp.down_proj.weight") {
                On("tp", .shard(1, .balanced))
            }
            Rule(
                "biases behind columns", from: layer + "{m:self_attn.o_proj|mlp.down_proj}.bias",
                to: target + "{m}.bias"
            ).optional
            Rule(
                "norms", from: layer + "{m:input_layernorm|post_attention_layernorm}.weight", to: target + "{m}.weight")
            Rule("final norm", from: "model.norm.weight", to: "model.norm.weight") {
                On("pp", .present(on: ["pp.size - 1"]))
            }
            Rule("head", from: "lm_head.weight", to: "lm_head.weight") {
                On("pp", .present(on: ["pp.size - 1"]))
                On("tp", .shard(0, .balanced))
            }.optional
        }
        spec.summary = "A Llama under the names of the Transformers library, on its ranks too."
        return spec
    }
}

extension UniversalSpec {
    /// How the experts of a layer are stored.
    public enum ExpertStorage: Sendable, Hashable {
        /// Each under a name of its own, numbered from 0 on each expert-parallel rank.
        case separate
        /// Those of a rank in one tensor, along a first dimension.
        case stacked
    }

    /// A mixture of experts over an expert-parallel axis: the experts are dealt out, each sharded over `tp`; the router
    /// and everything else is replicated over `ep`.
    ///
    /// Foreign names are `layers.N.mlp.experts.E.{w1,w3}` (column-parallel), `….w2` (row-parallel),
    /// `layers.N.mlp.router.weight`; logical ones are the same with the experts numbered through.
    public static func mixtureOfExperts(experts: Int, storage: ExpertStorage = .separate) throws -> UniversalSpec {
        var spec = try UniversalSpec(mesh: ["ep", "dp", "tp"], parameters: ["experts": experts]) {
            switch storage {
            case .separate:
                let from = "layers.{n}.mlp.experts.{e:0..<experts/ep.size}."
                let to = "layers.{n}.mlp.experts.{e + ep*experts/ep.size}."
                Rule("experts in", from: from + "{w:w1|w3}", to: to + "{w}") { On("tp", .shard(0)) }
                Rule("experts out", from: from + "w2", to: to + "w2") { On("tp", .shard(1)) }
            case .stacked:
                let from = "layers.{n}.mlp.experts.", to = "layers.{n}.mlp.experts.{e}."
                Rule("experts in", from: from + "{w:w1|w3}", to: to + "{w}") {
                    On("ep", .shard(0))
                    On("tp", .shard(1))
                    Apply(.unstack(axis: 0, slot: "e"))
                }
                Rule("experts out", from: from + "w2", to: to + "w2") {
                    On("ep", .shard(0))
                    On("tp", .shard(2))
                    Apply(.unstack(axis: 0, slot: "e"))
                }
            }
            Rule("router", from: "layers.{n}.mlp.router.weight", to: "layers.{n}.mlp.router.weight")
            Rule("the rest", from: "{name**}", to: "{name}") {
                Except("layers.*.mlp.experts.**", "layers.*.mlp.router.weight")
            }.optional
        }
        spec.summary = "A mixture of experts over an expert-parallel axis."
        return spec
    }
}
