internal import CairnBase
internal import CairnTensor

/// A mixture of experts in place of the feed-forward part of some layers (Shazeer et al. 2017; Fedus et al. 2022): a
/// router gives each token to a few of many feed-forward parts, whose outputs are added with weights that sum to one.
///
/// No token is dropped, however many want the same expert. That each token gets the same sum of weights makes a layer
/// of equal experts compute what one of them does.
public struct ExpertConfiguration: Sendable, Hashable {
    /// How many experts a layer has.
    public var count: Int
    /// How many each token goes to.
    public var chosen: Int
    /// The width inside each expert.
    public var width: Int
    /// Which layers have experts: every one, every second, …, of each such group the last.
    public var every: Int
    /// How much an uneven distribution of tokens adds to the loss.
    public var balance: Double
    /// What the sum over a token's experts is multiplied by: as many as it takes to make up one feed-forward part.
    public var scale: Double

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
