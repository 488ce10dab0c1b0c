package import CairnBase
package import CairnTensor

/// The structure of a decoder-only transformer.
public struct TransformerConfiguration: Sendable, Hashable {
    /// How tokens know where they stand.
    public enum Positions: String, Sendable, Hashable, CaseIterable {
        /// Rotation of queries and keys (Su et al. 2021), pairs (i, i + width / 2), base 10000.
        case rotary = "rope"
        /// A learned vector for each position.
        case learned
    }

    /// How activations are normalised before each block.
    public enum Norm: String, Sendable, Hashable, CaseIterable {
        case rms
        case layer
    }

    /// What the feed-forward part computes.
    public enum FeedForward: String, Sendable, Hashable, CaseIterable {
        /// down(gelu(up(x))), GELU in its tanh form
        case gelu
        /// down(silu(gate(x)) · up(x)) (Shazeer 2020)
        case swiglu
    }

    /// How many tokens there are.
    public var vocabularySize: Int
    /// How many tokens a sequence has.
    public var context: Int
    /// How many blocks.
    public var layers: Int
    /// Attention heads in each block; must divide `width`.
    public var heads: Int
    /// The length of the vector of a token.
    public var width: Int
    /// The width inside the feed-forward part, in multiples of `width`.
    public var feedForwardMultiple = 4
    public var positions = Positions.rotary
    public var norm = Norm.rms
    public var feedForward = FeedForward.gelu
    /// Whether the output uses the embedding's matrix.
    public var tiedEmbeddings = true
    /// Whether linear layers and layer norms have biases.
    public var biases = false
    /// Whether queries, keys and values are one matrix on top of each other.
    public var fusedQKV = true
    /// What some layers have in place of the feed-forward part, if any do.
    public var experts: ExpertConfiguration?

    public init(vocabularySize: Int, context: Int, layers: Int, heads: Int, width: Int) {
        self.vocabularySize = vocabularySize
        self.context = context
        self.layers = layers
        self.heads = heads
        self.width = width
    }

    /// The width inside the feed-forward part.
    var innerWidth: Int { feedForwardMultiple * width }

    /// The experts of a layer that has any.
    func experts(in layer: Int) -> ExpertConfiguration? {
        experts.flatMap { $0.isIn(layer: layer) ? $0 : nil }
    }

    /// The mean balance of the layers with experts, from ``PassResult/balanceSum``; `nil` where none have.
    func expertBalance(_ sum: Double, targets: Int) -> Double? {
        let layers = expertLayerCount
        return layers > 0 ? sum / Double(layers * targets) : nil
    }

    /// How many layers have experts.
    var expertLayerCount: Int { (0..<layers).filter { experts(in: $0) != nil }.count }

    /// Throws ``CairnError/Code/invalidArgument`` unless such a model exists and can learn this text.
    func validate(for text: TextDataset) throws(CairnError) {
        try validate()
        guard context == text.context, vocabularySize >= text.tokenizer.vocabularySize else {
            throw CairnError(
                .invalidArgument, "the model does not fit the text",
                .init(
                    expected: "context \(text.context), at least \(text.tokenizer.vocabularySize) tokens",
                    found: "context \(context), \(vocabularySize) tokens"))
        }
    }

    /// Throws ``CairnError/Code/invalidArgument`` unless such a model exists.
    func validate() throws(CairnError) {
        let sizes = [vocabularySize, context, layers, heads, width, feedForwardMultiple]
        // 2²⁴ each keeps every product of three within 64 bits.
        guard sizes.allSatisfy({ (1...1 << 24).contains($0) }) else {
            throw CairnError(
                .invalidArgument, "a size of the transformer is out of range",
                .init(
                    expected: "1 to \(1 << 24) each",
                    found: "vocabulary \(vocabularySize), context \(context), \(layers) layers, \(heads) heads, "
                        + "width \(width), feed-forward multiple \(feedForwardMultiple)"))
        }
        guard width % heads == 0, positions != .rotary || width / heads % 2 == 0 else {
            throw CairnError(
                .invalidArgument, "the heads must divide the width, into even parts for rotary positions",
                .init(found: "\(heads) heads, width \(width)"))
        }
        try experts?.validate(layers: layers)
    }

    /// The structure that a checkpoint's value `model` tells.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for what is not a transformer's
    ///   structure, ``CairnError/Code/invalidArgument`` for a transformer that cannot be.
    package init(_ value: Value?) throws(CairnError) {
        let fields = try ValueFields("model", value)
        try fields.expect("kind", "transformer")
        self.init(
            vocabularySize: try fields.integer("vocabulary_size"), context: try fields.integer("context"),
            layers: try fields.integer("layers"), heads: try fields.integer("heads"),
            width: try fields.integer("width"))
        feedForwardMultiple = try fields.integer("feed_forward_multiple")
        positions = try fields.choice("positions")
        norm = try fields.choice("norm")
        feedForward = try fields.choice("feed_forward")
        tiedEmbeddings = try fields.bool("tied_embeddings")
        biases = try fields.bool("biases")
        fusedQKV = try fields.bool("fused_qkv")
        var known: Set<String> = [
            "kind", "vocabulary_size", "context", "layers", "heads", "width", "feed_forward_multiple", "positions",
            "norm", "feed_forward", "tied_embeddings", "biases", "fused_qkv",
        ]
        if fields.has("experts") {
            experts = try ExpertConfiguration(fields.fields("experts"))
            known.insert("experts")
        }
        try fields.allowOnly(known)
        try validate()
    }

    /// The structure as a value to store.
    package var value: Value {
        var fields: [String: Value] = [
            "kind": .string("transformer"), "vocabulary_size": .integer(Int64(vocabularySize)),
            "context": .integer(Int64(context)), "layers": .integer(Int64(layers)), "heads": .integer(Int64(heads)),
            "width": .integer(Int64(width)), "feed_forward_multiple": .integer(Int64(feedForwardMultiple)),
            "positions": .string(positions.rawValue), "norm": .string(norm.rawValue),
            "feed_forward": .string(feedForward.rawValue), "tied_embeddings": .bool(tiedEmbeddings),
            "biases": .bool(biases), "fused_qkv": .bool(fusedQKV),
        ]
        // A model without experts is stored as it was before there were any.
        if let experts { fields["experts"] = experts.value }
        return .dictionary(fields)
    }
}

/// A mixture of experts in place of the feed-forward part of some layers (Shazeer et al. 2017; Fedus et al. 2022): a
/// router gives each token to a few of many feed-forward parts, whose outputs are added with weights that sum to one.
///
/// No token is dropped, however many want the same expert. That each token gets the same sum of weights makes a layer
/// of equal experts compute what one of them does.
public struct ExpertConfiguration: Sendable, Hashable {
    /// How many experts a layer has.
    package var count: Int
    /// How many each token goes to.
    package var chosen: Int
    /// The width inside each expert.
    package var width: Int
    /// Which layers have experts: every one, every second, …, of each such group the last.
    package var every: Int
    /// How much an uneven distribution of tokens adds to the loss.
    package var balance: Double
    /// What the sum over a token's experts is multiplied by: as many as it takes to make up one feed-forward part.
    package var scale: Double

    public init(
        count: Int, chosen: Int = 2, width: Int, every: Int = 2, balance: Double = 0.01, scale: Double = 1
    ) {
        self.count = count
        self.chosen = chosen
        self.width = width
        self.every = every
        self.balance = balance
        self.scale = scale
    }

    /// Whether a layer has experts.
    func isIn(layer: Int) -> Bool { layer % every == every - 1 }

    /// Throws ``CairnError/Code/invalidArgument`` unless a model of so many layers can have such experts.
    func validate(layers: Int) throws(CairnError) {
        // 2¹² experts of 2²⁴ columns stay within what the model's other sizes may be.
        guard (1...1 << 12).contains(count), (1...count).contains(chosen), (1...1 << 24).contains(width),
            (1...layers).contains(every), balance.isFinite, balance >= 0, scale.isFinite, scale > 0
        else {
            throw CairnError(
                .invalidArgument, "there cannot be such experts",
                .init(
                    expected: "1 to \(1 << 12) experts, no more chosen than there are, width 1 to \(1 << 24), in a "
                        + "layer of 1 to \(layers), a balance of 0 or more, a scale above 0",
                    found: "\(count) experts, \(chosen) chosen, width \(width), in a layer of \(every), "
                        + "balance \(balance), scale \(scale)"))
        }
    }

    var value: Value {
        .dictionary([
            "count": .integer(Int64(count)), "chosen": .integer(Int64(chosen)), "width": .integer(Int64(width)),
            "every": .integer(Int64(every)), "balance": .double(balance), "scale": .double(scale),
        ])
    }

    init(_ fields: ValueFields) throws(CairnError) {
        self.init(
            count: try fields.integer("count"), chosen: try fields.integer("chosen"),
            width: try fields.integer("width"),
            every: try fields.integer("every"), balance: try fields.double("balance"),
            scale: try fields.double("scale"))
        try fields.allowOnly(["count", "chosen", "width", "every", "balance", "scale"])
    }
}

/// A tensor of a run's state, known without a trainer.
package struct StateTensor: Sendable, Hashable {
    package let name: String
    package let scalarType: ScalarType
    package let shape: Shape
    /// The parameter that it is, or that it is kept for.
    package let parameter: String
    /// What it is kept as: `exp_avg`, `master`, …, `average`; `nil` for the parameter itself.
    package let slot: String?
}

extension TransformerConfiguration {
    /// All tensors of the state of a run of such a model, as ``Trainer/state()`` lists them.
    ///
    /// - Parameters:
    ///   - optimizer: the value `optimizer` of the state; without one no tensors of the optimizer are listed.
    ///   - trainer: the value `trainer`, which tells how the weights are kept.
    ///   - hasAverage: whether there is a moving average of the weights.
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for values that are not a trainer's.
    package func stateTensors(
        optimizer: Value?, trainer: Value?, hasAverage: Bool
    ) throws(CairnError) -> [StateTensor] {
        let precision: WeightPrecision = try ValueFields("trainer", trainer).choice("precision")
        let parameters = Transformer(self).parameters
        var tensors = parameters.map {
            StateTensor(
                name: $0.name, scalarType: precision.scalarType, shape: $0.shape, parameter: $0.name, slot: nil)
        }
        if hasAverage {
            tensors += parameters.map {
                StateTensor(
                    name: ParameterUpdate.averageName(of: $0.name), scalarType: .f32, shape: $0.shape,
                    parameter: $0.name, slot: "average")
            }
        }
        guard let optimizer else { return tensors }
        let kind: OptimizerConfiguration.Kind = try ValueFields("optimizer", optimizer).choice("kind")
        for parameter in parameters {
            let rule = ParameterUpdate.rule(kind, parameter.role)
            for slot in ParameterUpdate.slots(rule, hasMaster: precision.scalarType != .f32) {
                tensors.append(
                    StateTensor(
                        name: "optimizer.\(slot).\(parameter.name)", scalarType: .f32, shape: parameter.shape,
                        parameter: parameter.name, slot: slot))
            }
        }
        return tensors
    }

    /// The first values of the routers, drawn from a sequence of their own, by name.
    ///
    /// - Parameter granularity: how many experts behind one another are parts of one, and always wanted together.
    package func initialRouters(seed: UInt64, granularity: Int) throws -> [String: Tensor] {
        var random = PhiloxGenerator(key: seed, stream: 2)
        var routers: [String: Tensor] = [:]
        for parameter in Transformer(self).parameters where parameter.name.hasSuffix(".mlp.router.weight") {
            let values = parameter.initialization.values(parameter.shape.elementCount / granularity, &random)
            let rows = (0..<parameter.shape[0]).flatMap { row in
                values[row / granularity * width..<(row / granularity + 1) * width]
            }
            routers[parameter.name] = try Tensor(rows, parameter.shape)
        }
        return routers
    }

    /// Names that stand for a parameter of another name.
    package var ties: [(name: String, target: String)] { Transformer(self).ties }
}
