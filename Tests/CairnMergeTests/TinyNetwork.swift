import CairnCheckpoint
import CairnCheckpointTesting
import CairnTensor

/// A transformer of two layers with the names of one of the Transformers library's networks, and what it computes: norms
/// before and behind each part, of heads or over all of them, projections apart or in one, hidden units or experts.
struct TinyNetwork {
    enum HeadNorms {
        case none, ofEachHead, overAllHeads
    }

    let family: String
    var norms = ["input_layernorm", "post_attention_layernorm"]
    /// Whether the norms stand behind attention and perceptron and not before them, as OLMo 2 has it.
    var normsBehind = false
    var headNorms = HeadNorms.none
    var isFused = false
    var hasBiases = false
    var expertCount = 0
    var isTied = false
    var keyHeads = 2

    let heads = 4, width = 3, hidden = 10, residual = 8, vocabulary = 11, layers = 2

    static let all: [TinyNetwork] = [
        TinyNetwork(family: "llama"), TinyNetwork(family: "llama", isTied: true, keyHeads: 4),
        TinyNetwork(family: "qwen2", hasBiases: true), TinyNetwork(family: "qwen3", headNorms: .ofEachHead),
        TinyNetwork(
            family: "gemma2",
            norms: [
                "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
            ], isTied: true),
        TinyNetwork(
            family: "olmo2", norms: ["post_attention_layernorm", "post_feedforward_layernorm"], normsBehind: true,
            headNorms: .overAllHeads),
        TinyNetwork(family: "phi3", isFused: true, hasBiases: true), TinyNetwork(family: "mixtral", expertCount: 3),
    ]

    func at(_ layer: Int) -> String { "model.layers.\(layer)." }

    private func expert(_ layer: Int, _ number: Int) -> String { at(layer) + "block_sparse_moe.experts.\(number)." }

    func checkpoint(seed: UInt64) throws -> MemoryCheckpoint {
        var random = RandomTensors(seed: seed)
        var model = MemoryCheckpoint("model", isMapped: true)
        let (rows, keys) = (heads * width, keyHeads * width)
        func add(_ name: String, _ shape: Shape) throws { model.add(name, try random.tensor(shape)) }
        func addMatrix(_ name: String, _ rows: Int, _ columns: Int) throws {
            try add(name + ".weight", [rows, columns])
            if hasBiases { try add(name + ".bias", [rows]) }
        }
        try add("model.embed_tokens.weight", [vocabulary, residual])
        try add("model.norm.weight", [residual])
        if isTied {
            model.add("lm_head.weight", try model.tensor("model.embed_tokens.weight"), tiedTo: "model.embed_tokens.weight")
        } else {
            try add("lm_head.weight", [vocabulary, residual])
        }
        for layer in 0..<layers {
            for norm in norms { try add(at(layer) + norm + ".weight", [residual]) }
            if isFused {
                try addMatrix(at(layer) + "self_attn.qkv_proj", rows + 2 * keys, residual)
                try addMatrix(at(layer) + "mlp.gate_up_proj", 2 * hidden, residual)
            } else {
                for (name, count) in [("q", rows), ("k", keys), ("v", keys)] {
                    try addMatrix(at(layer) + "self_attn.\(name)_proj", count, residual)
                }
            }
            try addMatrix(at(layer) + "self_attn.o_proj", residual, rows)
            switch headNorms {
            case .none: break
            case .ofEachHead: for name in ["q", "k"] { try add(at(layer) + "self_attn.\(name)_norm.weight", [width]) }
            case .overAllHeads:
                try add(at(layer) + "self_attn.q_norm.weight", [rows])
                try add(at(layer) + "self_attn.k_norm.weight", [keys])
            }
            for number in 0..<expertCount {
                for name in ["w1", "w3"] { try add(expert(layer, number) + name + ".weight", [hidden, residual]) }
                try add(expert(layer, number) + "w2.weight", [residual, hidden])
            }
            if expertCount > 0 {
                try add(at(layer) + "block_sparse_moe.gate.weight", [expertCount, residual])
                continue
            }
            if !isFused {
                for name in ["gate", "up"] { try addMatrix(at(layer) + "mlp.\(name)_proj", hidden, residual) }
            }
            try addMatrix(at(layer) + "mlp.down_proj", residual, hidden)
        }
        return model
    }

    var configuration: String {
        """
        {"model_type": "\(family)", "num_attention_heads": \(heads), "num_key_value_heads": \(keyHeads),
         "head_dim": \(width), "hidden_size": \(residual)}
        """
    }

    // MARK: What it computes

    private static func normed(_ x: [Double], _ weights: [Double]) -> [Double] {
        let scale = (x.reduce(1e-6) { $0 + $1 * $1 } / Double(x.count)).squareRoot()
        return x.indices.map { x[$0] / scale * weights[$0 % weights.count] }
    }

    /// The logits of a few tokens, each of which attends to those before it.
    func outputs(_ reader: any CheckpointReader) throws -> [Double] {
        func elements(_ name: String) throws -> [Double] { try reader.doubles(name) }
        func product(_ name: String, _ x: [Double], rows: Range<Int>? = nil) throws -> [Double] {
            let matrix = try elements(name + ".weight")
            let rows = rows ?? 0..<matrix.count / x.count
            var y = rows.map { row in x.indices.reduce(0.0) { $0 + matrix[row * x.count + $1] * x[$1] } }
            if hasBiases, !name.contains("head") {
                let bias = try elements(name + ".bias")
                for index in y.indices { y[index] += bias[rows.lowerBound + index] }
            }
            return y
        }
        func headNormed(_ x: [Double], _ name: String) throws -> [Double] {
            switch headNorms {
            case .none: return x
            case .overAllHeads: return Self.normed(x, try elements(name))
            case .ofEachHead:
                let weights = try elements(name)
                return stride(from: 0, to: x.count, by: width).flatMap { Self.normed(Array(x[$0..<$0 + width]), weights) }
            }
        }
        let embedding = try elements("model.embed_tokens.weight")
        var states = [3, 7, 1, 9].map { Array(embedding[$0 * residual..<($0 + 1) * residual]) }
        for layer in 0..<layers {
            let attention = at(layer) + "self_attn."
            func norm(_ x: [Double], _ index: Int) throws -> [Double] {
                Self.normed(x, try elements(at(layer) + norms[index] + ".weight"))
            }
            var keys: [[Double]] = [], values: [[Double]] = []
            for token in states.indices {
                var x = states[token]
                let input = try normsBehind ? x : norm(x, 0)
                let (rows, count) = (heads * width, keyHeads * width)
                var q: [Double], k: [Double], v: [Double]
                if isFused {
                    q = try product(attention + "qkv_proj", input, rows: 0..<rows)
                    k = try product(attention + "qkv_proj", input, rows: rows..<rows + count)
                    v = try product(attention + "qkv_proj", input, rows: rows + count..<rows + 2 * count)
                } else {
                    q = try product(attention + "q_proj", input)
                    k = try product(attention + "k_proj", input)
                    v = try product(attention + "v_proj", input)
                }
                q = try headNormed(q, attention + "q_norm.weight")
                k = try headNormed(k, attention + "k_norm.weight")
                keys.append(k)
                values.append(v)
                let mixed = (0..<heads).flatMap { head -> [Double] in
                    let base = head / (heads / keyHeads) * width
                    let scores = keys.indices.map { past in
                        // Positions turn the elements of a head each by its own angle.
                        (0..<width).reduce(0.0) {
                            $0 + q[head * width + $1] * keys[past][base + $1] * Double($1 + 1 + token - past)
                        }
                    }
                    return (0..<width).map { element in
                        scores.indices.reduce(0.0) { $0 + scores[$1] / 30 * values[$1][base + element] }
                    }
                }
                var output = try product(attention + "o_proj", mixed)
                if normsBehind { output = try norm(output, 0) }
                if norms.count == 4 { output = try norm(output, 1) }
                for index in x.indices { x[index] += output[index] }
                let inner = try normsBehind ? x : norm(x, norms.count == 4 ? 2 : 1)
                var result = try perceptron(layer, inner, product)
                if normsBehind { result = try norm(result, 1) }
                if norms.count == 4 { result = try norm(result, 3) }
                for index in x.indices { x[index] += result[index] }
                states[token] = x
            }
        }
        let last = try elements("model.norm.weight")
        return try states.flatMap { try product("lm_head", Self.normed($0, last)) }
    }

    private func perceptron(
        _ layer: Int, _ x: [Double], _ product: (String, [Double], Range<Int>?) throws -> [Double]
    ) throws -> [Double] {
        func gated(_ gate: [Double], _ up: [Double]) -> [Double] { zip(gate, up).map { max(0, $0) * $1 } }
        if expertCount > 0 {
            var sum = [Double](repeating: 0, count: residual)
            let weights = try product(at(layer) + "block_sparse_moe.gate", x, nil)
            for number in 0..<expertCount {
                let units = try gated(
                    product(expert(layer, number) + "w1", x, nil), product(expert(layer, number) + "w3", x, nil))
                for (index, value) in try product(expert(layer, number) + "w2", units, nil).enumerated() {
                    sum[index] += weights[number] * value
                }
            }
            return sum
        }
        let mlp = at(layer) + "mlp."
        let units =
            try isFused
            ? gated(
                product(mlp + "gate_up_proj", x, 0..<hidden), product(mlp + "gate_up_proj", x, hidden..<2 * hidden))
            : gated(product(mlp + "gate_proj", x, nil), product(mlp + "up_proj", x, nil))
        return try product(mlp + "down_proj", units, nil)
    }
}
