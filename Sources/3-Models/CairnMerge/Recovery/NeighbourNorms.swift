import CairnBase
import CairnCheckpoint
import CairnTensor

/// The norms of the gradients of layers, read off Adam's second moments, and the weights that follow from them.
struct NeighbourNorms {
    /// What CheckFree's code adds to a norm.
    static let epsilon = 1e-4

    private let reader: any CheckpointReader
    private let states: ParameterStates
    private let constants: AdamConstants
    private var known: [String: Double] = [:]
    private var isGuess: Double?
    private var isUncorrected = false

    init(_ reader: any CheckpointReader, _ states: ParameterStates, _ options: RecoveryOptions) {
        self.reader = reader
        self.states = states
        constants = AdamConstants(reader, beta2: options.beta2)
    }

    /// The norms that were asked for, by the layers.
    var norms: Value { .dictionary(known.mapValues { .double($0) }) }

    /// What did not go without saying.
    var notes: [String] {
        var notes: [String] = []
        if let isGuess {
            notes.append("the checkpoint does not say Adam's second beta: \(isGuess) is taken; --beta2 says another")
        }
        if isUncorrected {
            notes.append(
                "the checkpoint does not say how many steps Adam's moments saw: gradient norms are taken without correction, "
                    + "which is the same factor for both neighbours")
        }
        return notes
    }

    /// The weights of the layers before and behind lost ones.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` where there are no second moments, ``CairnError/Code/invalidArgument`` where
    ///   β₂ is   ambiguous, and what reading throws.
    mutating func weights(of around: LayerStacks.Neighbours, _ kind: NeighbourWeights) throws -> (before: Double, after: Double) {
        guard kind != .equal, let before = around.before, let after = around.after else { return (1, 1) }
        let (first, second) = (try norm(around.prefix, before), try norm(around.prefix, after))
        switch kind {
        case .equal: return (1, 1)
        case .gradientNorms: return (first + Self.epsilon, second + Self.epsilon)
        // Without any gradient there is nothing to weigh by.
        case .squaredNorms: return first + second > 0 ? (first * first, second * second) : (1, 1)
        }
    }

    private mutating func norm(_ prefix: String, _ layer: Int) throws -> Double {
        if let norm = known["\(prefix)\(layer)"] { return norm }
        var squares = 0.0, count = 0
        for state in states.all where state.layer?.prefix == prefix && state.layer?.layer == layer {
            for (_, tensor) in state.parts(.secondMoment) {
                count += 1
                squares += try ElementSums(of: tensor, in: reader).sum * correction(state)
            }
        }
        guard count > 0 else {
            throw CairnError(
                .incomplete, "the checkpoint has no second moments of a layer beside the lost ones to weigh it by",
                .init(
                    file: reader.source, expected: "exp_avg_sq of \(prefix)\(layer)",
                    advice: "weigh the neighbours alike: --weights equal"))
        }
        guard squares >= 0, squares.isFinite else {
            throw CairnError(
                .unsupported, "the second moments of a layer beside the lost ones do not add up to a norm",
                .init(
                    file: reader.source, found: "\(squares) for \(prefix)\(layer)",
                    advice: "weigh the neighbours alike: --weights equal"))
        }
        known["\(prefix)\(layer)"] = squares.squareRoot()
        return squares.squareRoot()
    }

    /// What makes a second moment the mean of what it has seen: it began with zero.
    private mutating func correction(_ state: ParameterState) throws -> Double {
        guard let step = try constants.step(of: state), step >= 1 else {
            isUncorrected = true
            return 1
        }
        let (beta2, isGuess) = try constants.beta2()
        if isGuess { self.isGuess = beta2 }
        return 1 / (1 - power(beta2, step))
    }

    /// By repeated squaring, which has the same bits everywhere.
    private func power(_ base: Double, _ exponent: Double) -> Double {
        var rest = UInt64(min(exponent, 1e15)), square = base, result = 1.0
        while rest > 0 {
            if rest & 1 == 1 { result *= square }
            square *= square
            rest >>= 1
        }
        return result
    }
}
