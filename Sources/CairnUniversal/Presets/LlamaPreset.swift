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
