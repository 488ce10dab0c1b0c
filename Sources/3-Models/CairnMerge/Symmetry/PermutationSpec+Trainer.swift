public import CairnBase
public import CairnCheckpoint
import CairnTensor

extension PermutationSpec {
    /// A model with the names of Cairn's example trainer: the hidden units of a classifier; of a transformer, the heads,
    /// hidden units, experts with the hidden units inside each and, unless it is left out, the residual stream.
    ///
    /// - Parameter headCount: How many heads each layer has; `nil` for what the checkpoint's value `model` says.
    /// - Throws: ``CairnError/Code/unsupported`` for a checkpoint with other names, ``CairnError/Code/invalidArgument``
    ///   where nothing says how many heads there are, or they do not divide the width.
    public static func trainer(
        of reader: any CheckpointReader, headCount: Int? = nil, includesResidual: Bool = true
    ) throws(CairnError) -> PermutationSpec {
        let layers = TrainerNames(reader)
        if layers.has("model.layers.0.weight") { return layers.perceptron }
        guard layers.has("model.embedding.weight"), layers.has("model.layers.0.attention.output.weight") else {
            throw CairnError(
                .unsupported, "the checkpoint is not a model of the trainer",
                .init(
                    file: reader.source, expected: "model.layers.0.weight or model.layers.0.attention.output.weight",
                    advice: "take another network, or write a specification"))
        }
        let width = try reader.description(of: "model.layers.0.attention.output.weight").shape.extents.last ?? 0
        guard let heads = headCount ?? layers.storedHeadCount else {
            throw CairnError(
                .invalidArgument, "nothing says how many heads a layer has",
                .init(file: reader.source, expected: "the value \"model\"", advice: "say how many"))
        }
        guard heads > 0, width > 0, width.isMultiple(of: heads) else {
            throw CairnError(
                .invalidArgument, "the heads do not divide the width",
                .init(file: reader.source, found: "\(heads) heads, width \(width)"))
        }
        var spec = try transformer(
            blocks: layers.blocks, headWidth: width / heads, residual: includesResidual ? layers.residual : [:],
            reader: reader)
        for name in layers.residual.keys where spec.axes[name] == nil {
            spec.axes[name] = try reader.description(of: name).shape.extents.map { _ in nil }
        }
        return spec
    }

    /// The same with what the example trainer keeps beside the weights, `optimizer.SLOT.NAME` and `average.NAME`, as
    /// far as the checkpoint has it.
    public func includingState(in reader: any CheckpointReader) -> PermutationSpec {
        let named = Set(axes.keys).union(stacks.values.joined().joined())
        var prefixes = Set<String>()
        for tensor in reader.tensors
        where tensor.name.hasPrefix("optimizer.") || tensor.name.hasPrefix("average.") {
            if let weight = Self.suffix(of: tensor.name, in: named) {
                prefixes.insert(String(tensor.name.dropLast(weight.count)))
            }
        }
        var whole = self
        for prefix in prefixes.sorted() { whole.merge(companions(prefix, in: reader)) }
        return whole
    }

    /// The same of tensors whose names are a prefix and the weights' names, as far as the checkpoint has them.
    package func companions(_ prefix: String, in reader: any CheckpointReader) -> PermutationSpec {
        let exists = { (name: String) in reader.tensors.position(of: name) != nil }
        var kept = renamed { prefix + $0 }
        kept.axes = kept.axes.filter { exists($0.key) }
        kept.stacks = kept.stacks.mapValues { $0.filter { $0.contains(where: exists) } }.filter { !$0.value.isEmpty }
        return kept
    }

    /// Tensors that look as if they were kept beside a weight, since their names end with its name, and that the
    /// specification does not name: the moments of an optimizer, if it was not told of them.
    package func unnamedCompanions(in reader: any CheckpointReader) -> [String] {
        let named = Set(axes.keys).union(stacks.values.joined().joined())
        return reader.tensors.map(\.name).filter { !named.contains($0) && Self.suffix(of: $0, in: named) != nil }
    }

    /// The name that another one ends with behind a dot.
    private static func suffix(of name: String, in known: Set<String>) -> String? {
        var rest = name[...]
        while let dot = rest.firstIndex(of: ".") {
            rest = rest[rest.index(after: dot)...]
            if known.contains(String(rest)) { return String(rest) }
        }
        return nil
    }
}

/// Which tensors a checkpoint of the example trainer has, by its naming.
private struct TrainerNames {
    let reader: any CheckpointReader

    init(_ reader: any CheckpointReader) { self.reader = reader }

    func has(_ name: String) -> Bool { reader.tensors.position(of: name) != nil }

    /// Weight and bias of a part, as far as they are there.
    private func existing(_ part: String) -> [String] { [part + ".weight", part + ".bias"].filter(has) }

    var storedHeadCount: Int? {
        let value = reader.values.first { $0.name == "model" }?.value
        guard case .dictionary(let model)? = value else { return nil }
        switch model["heads"] {
        case .integer(let count): return Int(exactly: count)
        case .unsigned(let count): return Int(exactly: count)
        default: return nil
        }
    }

    private var layerCount: Int { LayerName.counts(in: reader)["model.layers."] ?? 0 }

    var perceptron: PermutationSpec {
        let parts = (0..<layerCount).map { "model.layers.\($0)" }
        return .perceptron(
            weights: parts.map { $0 + ".weight" }, biases: parts.map { has($0 + ".bias") ? $0 + ".bias" : nil })
    }

    var blocks: [PermutationSpec.TransformerBlock] {
        (0..<layerCount).map { layer in
            let attention = "model.layers.\(layer).attention", mlp = "model.layers.\(layer).mlp"
            var block = PermutationSpec.TransformerBlock()
            block.fused = existing(attention + ".qkv")
            block.queries = existing(attention + ".query")
            block.keysAndValues = existing(attention + ".key") + existing(attention + ".value")
            block.headOutput = attention + ".output.weight"
            if has(mlp + ".router.weight") {
                let experts = Array(
                    sequence(first: 0) { $0 + 1 }.lazy.map { "\(mlp).experts.\($0)" }
                        .prefix { has($0 + ".up.weight") })
                block.router = mlp + ".router.weight"
                block.experts = experts.map { expert in
                    ["gate", "up", "down"].flatMap { existing("\(expert).\($0)") }
                }
                block.expertUnits = experts.map { expert in
                    .init(
                        inputs: existing(expert + ".gate") + existing(expert + ".up"),
                        output: expert + ".down.weight")
                }
            } else {
                block.feedForwardInputs = existing(mlp + ".gate") + existing(mlp + ".up")
                block.feedForwardOutput = mlp + ".down.weight"
            }
            return block
        }
    }

    /// For each tensor along the residual stream its axis.
    var residual: [String: Int] {
        var axes: [String: Int] = [:]
        for tensor in reader.tensors where tensor.name.hasPrefix("model.") {
            let name = tensor.name
            if tensor.shape.dimensionCount == 2 {
                axes[name] = name.hasSuffix(".attention.output.weight") || name.hasSuffix(".down.weight") ? 0 : 1
            } else if ["output.bias", "down.bias"].contains(where: name.hasSuffix) || name.contains("norm.") {
                axes[name] = 0
            }
        }
        return axes
    }
}
