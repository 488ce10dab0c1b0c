public import CairnBase
public import CairnCheckpoint
import CairnTensor

/// Checkpoints of a run by the metric that they were saved with.
public struct StoredSoup: Sendable, Hashable {
    /// Which of the stored metrics.
    package var metric: String
    /// Whether more of it is better.
    package var higherIsBetter: Bool
    /// The first step that counts.
    package var start: Int?
    /// The last step that counts.
    package var end: Int?

    public init(metric: String, higherIsBetter: Bool = false, start: Int? = nil, end: Int? = nil) {
        self.metric = metric
        self.higherIsBetter = higherIsBetter
        self.start = start
        self.end = end
    }

    /// The committed checkpoints that have the metric, the best first, the newest of equal ones first. Reads manifests alone.
    public func ranked(_ store: CheckpointStore) throws(CairnError) -> [(step: Int, value: Double)] {
        var found: [(step: Int, value: Double)] = []
        for summary in try store.list() {
            guard case .committed = summary.state, let value = summary.manifest?.metrics[metric], !value.isNaN,
                summary.step >= start ?? .min, summary.step <= end ?? .max
            else { continue }
            found.append((summary.step, value))
        }
        return found.sorted { one, other in
            if one.value == other.value { return one.step > other.step }
            return higherIsBetter ? one.value > other.value : one.value < other.value
        }
    }
}

/// A uniform average that takes in one checkpoint after another as long as that helps. (Wortsman et al., "Model soups",
/// ICML 2022)
public struct GreedySoup: Sendable {
    /// A decision about one checkpoint.
    public struct Decision: Sendable, Hashable {
        /// The position of the checkpoint among the candidates.
        public var candidate: Int
        /// The value of the soup with it.
        public var value: Double
        public var isTaken: Bool
    }

    /// The average of those that were taken.
    public let merged: MergedCheckpoint
    /// The positions of those, in the order in which they were taken.
    public let members: [Int]
    /// The average's value.
    public let value: Double
    /// Every decision in its order.
    public let decisions: [Decision]

    /// Tries candidates from the first to the last.
    ///
    /// No file is written: `evaluate` is given an average that is computed as it is read. Evaluate on data that is not
    /// used to report the result.
    ///
    /// - Parameters:
    ///   - candidates: The best first, as ``StoredSoup/ranked(_:)`` gives them: equal ones in an order that is known.
    ///   - evaluate: The value of a checkpoint; what is not a number counts as no gain.
    /// - Throws: ``CairnError/Code/mismatch`` with everything in which candidates differ, what `evaluate` throws.
    public init(
        of candidates: [MergeInput], higherIsBetter: Bool = false, options: MergeOptions = MergeOptions(),
        evaluating evaluate: (MergedCheckpoint) throws -> Double
    ) throws {
        guard !candidates.isEmpty else { throw CairnError(.invalidArgument, "a soup needs at least one checkpoint") }
        func average(_ members: [Int]) throws(CairnError) -> MergedCheckpoint {
            try MergedCheckpoint(
                averaging: members.map { candidates[$0] }, operation: "greedy soup", options: options)
        }
        var members = [0]
        var merged = try average(members)
        var value = try evaluate(merged)
        var decisions = [Decision(candidate: 0, value: value, isTaken: true)]
        for candidate in candidates.indices.dropFirst() {
            let tried = try average(members + [candidate])
            let found = try evaluate(tried)
            // A first value that is not a number is worse than any.
            let isTaken = !found.isNaN && (value.isNaN || (higherIsBetter ? found > value : found < value))
            decisions.append(Decision(candidate: candidate, value: found, isTaken: isTaken))
            guard isTaken else { continue }
            members.append(candidate)
            (merged, value) = (tried, found)
        }
        self.merged = merged
        self.members = members
        self.value = value
        self.decisions = decisions
    }
}

/// A weighted average whose coefficients are learned on held-out data, one for each checkpoint, or one for each
/// checkpoint and each group of tensors. (Wortsman et al., "Model soups", ICML 2022)
///
/// The paper follows gradients; here CMA-ES searches, which needs nothing but values. Coefficients are positive and
/// add up to 1.
///
/// ```swift
/// let whole = try LearnedSoup(of: inputs) { try loss(of: $0, on: heldOut) }
/// var settings = LearnedSoup.Settings()
/// settings.grouping = .layers
/// settings.start = whole.coefficients[0]
/// let byLayer = try LearnedSoup(of: inputs, settings: settings) { try loss(of: $0, on: heldOut) }
/// ```
public struct LearnedSoup: Sendable {
    /// How coefficients are learned.
    public struct Settings: Sendable, Hashable {
        /// Which tensors have coefficients in common.
        public var grouping = CoefficientSpace.Grouping.whole
        /// The coefficients to begin with, the same for all groups; `nil` for equal ones. Those below a thousandth
        /// begin as that.
        public var start: [Double]?
        /// The first step of the search, in logarithms of coefficients.
        public var step = 0.5
        /// No generation is begun behind so many evaluations.
        public var evaluationLimit = 200
        public var seed: UInt64 = 0

        public init() {}
    }

    /// The average.
    public let merged: MergedCheckpoint
    /// The names of the groups of tensors.
    public let groups: [String]
    /// The coefficients of the checkpoints, for each group.
    public let coefficients: [[Double]]
    /// The average's value.
    public let value: Double
    /// How many averages were evaluated.
    public let evaluationCount: Int

    /// Learns the coefficients of checkpoints. The result is not worse than what it began with.
    ///
    /// No file is written: `evaluate` is given an average that is computed as it is read. Evaluate on data that is not
    /// used to report the result.
    ///
    /// - Parameter evaluate: The value of a checkpoint; what is not a number counts as worse than any.
    /// - Throws: ``CairnError/Code/mismatch`` with everything in which candidates differ,
    ///   ``CairnError/Code/invalidArgument`` for settings that make no sense, what `evaluate` throws.
    public init(
        of candidates: [MergeInput], higherIsBetter: Bool = false, settings: Settings = Settings(),
        options: MergeOptions = MergeOptions(), evaluating evaluate: (MergedCheckpoint) throws -> Double
    ) throws {
        let space = try CoefficientSpace(
            candidates, grouping: settings.grouping, constraint: .convex, options: options)
        let sign = higherIsBetter ? -1.0 : 1.0
        func value(_ point: [Double]) throws -> Double {
            let found = try evaluate(space.merged(point))
            return found.isNaN ? .infinity : sign * found
        }
        let start =
            try settings.start.map { coefficients throws(CairnError) in try space.point(of: coefficients) }
            ?? space.uniformPoint
        var best = (point: start, value: try value(start))
        var limits = EvolutionStrategy.Settings()
        limits.evaluationLimit = max(0, settings.evaluationLimit - 1)
        var search = try EvolutionStrategy(start: start, step: settings.step, seed: settings.seed, settings: limits)
        while search.stopReason == nil {
            let values = try search.ask().map(value)
            try search.tell(values)
        }
        if let found = search.best, found.value < best.value { best = found }
        let coefficients = try space.coefficients(of: best.point)
        let merged = try space.merged(best.point)
        // With several groups no one number says what a checkpoint counts.
        let details = zip(space.groups, coefficients).map { ($0, Value($1)) }
        self.merged = merged.replacing(
            values: merged.values,
            lineage: Lineage(
                operation: "learned soup", parents: merged.lineage.parents,
                details: ["coefficients": .dictionary(Dictionary(details, uniquingKeysWith: { first, _ in first }))]))
        self.coefficients = coefficients
        groups = space.groups
        self.value = sign * best.value
        evaluationCount = search.evaluationCount + 1
    }
}
