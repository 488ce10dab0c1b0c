import CairnBase
import CairnCheckpoint

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
