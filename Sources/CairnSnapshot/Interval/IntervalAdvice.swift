/// How often to take snapshots, and what that costs.
public struct IntervalAdvice: Sendable, Hashable {
    /// Training time between two snapshots, in seconds: a whole number of steps.
    public var seconds: Double
    /// The same in steps, at least 1.
    public var steps: Int
    /// What the formula alone gives, in seconds.
    public var optimum: Double
    /// Whether the interval is longer than the optimum because a snapshot takes that long to become durable.
    public var isBoundByDurability: Bool
    /// What the interval costs.
    public var loss: IntervalLoss
}

/// The expected fractions of the time on the wall that are not training that counts. They add up to ``total``.
public struct IntervalLoss: Sendable, Hashable {
    /// Taking snapshots.
    public var checkpointing: Double
    /// Doing again what a failure undid.
    public var rework: Double
    /// Starting again after failures.
    public var restarting: Double

    /// All of them.
    public var total: Double { checkpointing + rework + restarting }
}
