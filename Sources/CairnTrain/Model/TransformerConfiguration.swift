public import CairnBase
public import CairnTensor

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
    public init(_ value: Value?) throws(CairnError) {
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
    public var value: Value {
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
