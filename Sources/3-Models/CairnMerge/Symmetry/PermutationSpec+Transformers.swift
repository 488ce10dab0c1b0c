public import CairnBase
public import CairnCheckpoint
import CairnTensor

extension PermutationSpec {
    /// The networks of the Transformers library, by the `model_type` of their configuration, that
    /// ``llama(of:headCount:keyHeadCount:includesResidual:configuration:)`` knows.
    public static let transformersNetworks = [
        "cohere", "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "nemotron", "olmo", "olmo2",
        "olmo3", "olmoe", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2",
    ]

    /// A model with the names of Hugging Face's Llama and its kin (``transformersNetworks``): heads in their groups, hidden
    /// units, experts and, unless it is left out, the residual stream.
    ///
    /// Every tensor is named, also those that keep their order.
    ///
    /// - Parameters:
    ///   - headCount: Heads of a layer; `nil` for what the configuration says.
    ///   - keyHeadCount: Heads of keys and values; `nil` for what the configuration says, or as many as heads.
    ///   - configuration: The model's, against which everything is checked.
    /// - Throws: ``CairnError/Code/unsupported`` for a checkpoint with other tensors or another `model_type`,
    ///   ``CairnError/Code/mismatch`` for heads that do not fit the shapes or the configuration.
    public static func llama(
        of reader: any CheckpointReader, headCount: Int? = nil, keyHeadCount: Int? = nil, includesResidual: Bool = true,
        configuration: ModelConfiguration? = nil
    ) throws(CairnError) -> PermutationSpec {
        if let configuration, let type = configuration.modelType, !transformersNetworks.contains(type) {
            throw CairnError(
                .unsupported, "which units this network has is not known",
                .init(
                    file: configuration.file, expected: transformersNetworks.joined(separator: ", "),
                    found: "model_type \(type.debugDescription)", advice: "write a specification and name it by --spec"))
        }
        return try TransformersNetwork(reader).specification(
            heads: headCount, keyHeads: keyHeadCount, configuration, includesResidual: includesResidual)
    }
}

/// The tensors of a model of the Transformers library by their roles.
private struct TransformersNetwork {
    private let reader: any CheckpointReader
    /// What stands before a layer's number: `model.layers.`.
    private let stack: String
    private let layerCount: Int

    init(_ reader: any CheckpointReader) throws(CairnError) {
        self.reader = reader
        let counts = LayerName.counts(in: reader)
        guard let (prefix, count) = counts.first, counts.count == 1 else {
            throw CairnError(
                .unsupported, "the checkpoint has not one stack of layers",
                .init(file: reader.source, found: counts.keys.sorted().joined(separator: ", ")))
        }
        (stack, layerCount) = (prefix, count)
    }

    private func has(_ name: String) -> Bool { reader.tensors.position(of: name) != nil }

    private func shape(_ name: String) throws(CairnError) -> Shape { try reader.description(of: name).shape }

    func specification(
        heads: Int?, keyHeads: Int?, _ configuration: ModelConfiguration?, includesResidual: Bool
    ) throws(CairnError) -> PermutationSpec {
        let numbers = try numbers(heads, keyHeads, configuration)
        let width = try shape("\(stack)0.self_attn.o_proj.weight").extents.first
        if let expected = configuration?.hiddenSize, expected != width {
            throw CairnError(
                .mismatch, "the model is not the one of the configuration",
                .init(
                    file: configuration?.file, tensor: "\(stack)0.self_attn.o_proj.weight",
                    expected: "hidden_size \(expected)", found: "\(width ?? 0)"))
        }
        let residual = includesResidual ? PermutationSpec.Axis("residual") : nil
        var spec = PermutationSpec()
        var experts: [Int: [String: [Int: String]]] = [:]
        for tensor in reader.tensors {
            var axes: [PermutationSpec.Axis?]?
            if let name = LayerName(tensor.name) {
                let layer = LayerTensors(layer: name.layer, heads: numbers, residual: residual)
                axes = layer.axes(name.suffix, tensor.shape)
                if let expert = LayerTensors.expert(name.suffix) {
                    experts[name.layer, default: [:]][expert.part, default: [:]][expert.number] = tensor.name
                }
            } else {
                axes = outer(tensor, residual)
            }
            guard let axes, axes.count == tensor.shape.dimensionCount else {
                throw CairnError(
                    .unsupported, "what this tensor does in the network is not known, nor whether it has to move",
                    .init(
                        file: reader.source, tensor: tensor.name, found: "\(tensor.shape)",
                        advice: "leave it out by --exclude, or write a specification that names it (--save-spec, --spec)"))
            }
            spec.axes[tensor.name] = axes
        }
        for (layer, parts) in experts {
            let count = parts.values.map { ($0.keys.max() ?? 0) + 1 }.max() ?? 0
            let sorted = parts.sorted { $0.key < $1.key }
            spec.stacks["block.\(layer).experts"] = try sorted.map { part, names throws(CairnError) in
                guard names.count == count else {
                    throw CairnError(
                        .incomplete, "not every expert has this tensor",
                        .init(
                            file: reader.source, tensor: names.values.sorted().first, expected: "\(count) of \(part)",
                            found: "\(names.count)"))
                }
                return names.sorted { $0.key < $1.key }.map(\.value)
            }
        }
        return spec
    }

    /// The heads, which are the same in all layers.
    private func numbers(
        _ heads: Int?, _ keyHeads: Int?, _ configuration: ModelConfiguration?
    ) throws(CairnError) -> HeadNumbers {
        var common: HeadNumbers?
        for layer in 0..<layerCount {
            let at = "\(stack)\(layer).self_attn."
            let columns = try shape(at + "o_proj.weight").extents.last ?? 0
            let rows: (queries: Int, keys: Int)
            if has(at + "qkv_proj.weight") {
                let all = try shape(at + "qkv_proj.weight").extents.first ?? 0
                guard all > columns, (all - columns).isMultiple(of: 2) else {
                    throw CairnError(
                        .mismatch, "the projection is not of queries, keys and values",
                        .init(
                            file: reader.source, tensor: at + "qkv_proj.weight",
                            expected: "more than the \(columns) rows of the queries", found: "\(all)"))
                }
                rows = (columns, (all - columns) / 2)
            } else {
                rows = (
                    try shape(at + "q_proj.weight").extents.first ?? 0, try shape(at + "k_proj.weight").extents.first ?? 0
                )
                let values = try shape(at + "v_proj.weight").extents.first ?? 0
                guard rows.queries == columns, rows.keys == values else {
                    throw CairnError(
                        .mismatch, "the projections of a layer do not fit each other",
                        .init(
                            file: reader.source, tensor: at + "q_proj.weight",
                            expected: "\(columns) rows as o_proj has columns, and as many of keys as of values",
                            found: "\(rows.queries), \(rows.keys) of keys, \(values) of values"))
                }
            }
            var known: Int?
            for norm in ["q_norm.weight", "k_norm.weight"] where has(at + norm) {
                let length = try shape(at + norm).extents.last ?? 0
                if length != (norm == "q_norm.weight" ? rows.queries : rows.keys) { known = length }
            }
            let own = try HeadNumbers(
                heads: heads, keyHeads: keyHeads, queryRows: rows.queries, keyRows: rows.keys, knownWidth: known,
                configuration, source: reader.source)
            guard common == nil || common == own else {
                throw CairnError(
                    .unsupported, "the layers have different numbers of heads",
                    .init(file: reader.source, tensor: at + "k_proj.weight", advice: "write a specification"))
            }
            common = own
        }
        guard let common else { throw CairnError(.unsupported, "the checkpoint has no layers", .init(file: reader.source)) }
        return common
    }

    /// What acts on a tensor outside the layers.
    private func outer(_ tensor: TensorDescription, _ residual: PermutationSpec.Axis?) -> [PermutationSpec.Axis?]? {
        // `model.` before the layers; a head stands outside it.
        let inside = stack.split(separator: ".").dropLast().joined(separator: ".")
        let beginnings = [inside.isEmpty ? "" : inside + ".", ""]
        for beginning in beginnings where tensor.name.hasPrefix(beginning) {
            switch tensor.name.dropFirst(beginning.utf8.count) {
            case "embed_tokens.weight", "lm_head.weight", "score.weight": return [nil, residual]
            case "norm.weight", "norm.bias": return [residual]
            case "lm_head.bias", "score.bias", "rotary_emb.inv_freq": return [nil]
            default: continue
            }
        }
        return nil
    }
}

/// What acts on the tensors of one layer, by what their names end with.
private struct LayerTensors {
    let layer: Int
    let heads: HeadNumbers
    let residual: PermutationSpec.Axis?

    private typealias Axis = PermutationSpec.Axis

    /// Matrices to hidden units, and from them, as experts and layers without any call theirs.
    private static let inward: Set<Substring> = ["gate_proj", "up_proj", "w1", "w3", "c_fc"]
    private static let outward: Set<Substring> = ["down_proj", "w2", "c_proj"]
    private static let norms: Set<Substring> = [
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    ]

    private var group: Axis { Axis(label("heads"), width: heads.groupWidth) }
    private var key: Axis { Axis(label("heads"), width: heads.width) }
    private var fused: Axis { Axis(label("heads"), widths: [heads.groupWidth, heads.width, heads.width]) }

    private func label(_ units: String) -> String { "block.\(layer).\(units)" }

    /// For `.mlp.experts.3.up_proj.weight` the number and `up_proj.weight`.
    static func expert(_ suffix: String) -> (number: Int, part: String)? {
        let parts = suffix.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[1] == "mlp" || parts[1] == "block_sparse_moe", parts[2] == "experts",
            let number = Int(parts[3]), number >= 0, number < 1 << 20
        else { return nil }
        return (number, "\(parts[4]).\(parts[5])")
    }

    /// - Parameter suffix: What follows the layer's number, with its dot.
    /// - Returns: `nil` for a tensor that is not known.
    func axes(_ suffix: String, _ shape: Shape) -> [PermutationSpec.Axis?]? {
        if let expert = Self.expert(suffix) {
            return hidden(expert.part, Axis(label("expert.\(expert.number).hidden")))
        }
        let parts = suffix.split(separator: ".", omittingEmptySubsequences: false).dropFirst()
        guard let first = parts.first, let last = parts.last else { return nil }
        let inner = parts.dropFirst().joined(separator: ".")
        switch (first, parts.count) {
        case ("self_attn", 3): return attention(inner, shape)
        case ("mlp", 3) where inner == "gate.weight", ("block_sparse_moe", 3) where inner == "gate.weight":
            return [Axis(label("experts")), residual]
        case ("mlp", 3) where inner == "shared_expert_gate.weight": return [nil, residual]
        case ("mlp", 3): return hidden(inner, Axis(label("hidden")))
        case ("mlp", 4) where parts.dropFirst().first == "shared_expert":
            return hidden(parts.dropFirst(2).joined(separator: "."), Axis(label("shared.hidden")))
        case (_, 2) where Self.norms.contains(first) && (last == "weight" || last == "bias"): return [residual]
        default: return nil
        }
    }

    private func attention(_ name: String, _ shape: Shape) -> [PermutationSpec.Axis?]? {
        switch name {
        case "q_proj.weight": return [group, residual]
        case "k_proj.weight", "v_proj.weight": return [key, residual]
        case "qkv_proj.weight": return [fused, residual]
        case "q_proj.bias": return [group]
        case "k_proj.bias", "v_proj.bias": return [key]
        case "qkv_proj.bias": return [fused]
        case "o_proj.weight": return [residual, group]
        case "o_proj.bias": return [residual]
        case "rotary_emb.inv_freq": return [nil]
        case "q_norm.weight", "k_norm.weight":
            // Over all heads, for each by itself, or one for all, which then keeps its order.
            let (axis, count) = name == "q_norm.weight" ? (group, heads.count) : (key, heads.keyCount)
            switch shape.extents {
            case [heads.width] where count > 1: return [nil]
            case [count * heads.width]: return [axis]
            case [count, heads.width]:
                return [Axis(axis.label, width: axis.width / heads.width), nil]
            default: return nil
            }
        default: return nil
        }
    }

    /// The matrices of a perceptron and what is added to them.
    private func hidden(_ name: String, _ units: PermutationSpec.Axis) -> [PermutationSpec.Axis?]? {
        let parts = name.split(separator: ".")
        guard parts.count == 2, parts[1] == "weight" || parts[1] == "bias" else { return nil }
        let isWeight = parts[1] == "weight"
        if parts[0] == "gate_up_proj" {
            let both = PermutationSpec.Axis(units.label, repeats: 2)
            return isWeight ? [both, residual] : [both]
        }
        if Self.inward.contains(parts[0]) { return isWeight ? [units, residual] : [units] }
        if Self.outward.contains(parts[0]) { return isWeight ? [residual, units] : [residual] }
        return nil
    }
}
