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
