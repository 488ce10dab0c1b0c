public import CairnCheckpoint

/// What takes the place of lost layers.
public enum LossRecovery: Sendable {
    /// The weighted mean of the layer before the lost ones and the layer behind them (CheckFree, Blagoev et al. 2025). The first
    /// and the last layer have one neighbour, and are copies of it, as CheckFree+ makes them.
    case neighbours(NeighbourWeights = .gradientNorms)
    /// What an older checkpoint of the same run has under the same names, moments too.
    case older(any CheckpointReader)
    /// Copies of one layer.
    case copy(layer: Int)
    /// Normal random numbers with the neighbours' standard deviation for what has two dimensions or more, copies of a neighbour's
    /// for the rest.
    case initial

    /// As the lineage and the tool call it.
    var name: String {
        switch self {
        case .neighbours: "neighbours"
        case .older: "older"
        case .copy: "copy"
        case .initial: "init"
        }
    }
}

/// How the two neighbours of lost layers are weighed.
public enum NeighbourWeights: String, Sendable, Hashable, CaseIterable {
    /// Each by the norm of its gradient plus 10⁻⁴, as the code of CheckFree's authors does. The norm is read off Adam's second
    /// moments: the root of the sum of `exp_avg_sq` / (1 − β₂ᵗ).
    case gradientNorms = "grad"
    /// Each by the square of that norm, as their paper has it.
    case squaredNorms = "grad-squared"
    case equal
}

/// What else decides on the values of lost tensors.
public struct RecoveryOptions: Sendable {
    /// Chooses the random numbers of ``LossRecovery/initial``, with the tensors' names and nothing else.
    public var seed: UInt64 = 0
    /// Adam's second beta where the checkpoint does not say it, or groups of parameters differ; `nil` for 0.999 then.
    public var beta2: Double?
    /// How means are computed.
    public var merging = MergeOptions()

    public init(seed: UInt64 = 0, beta2: Double? = nil) {
        self.seed = seed
        self.beta2 = beta2
    }
}
