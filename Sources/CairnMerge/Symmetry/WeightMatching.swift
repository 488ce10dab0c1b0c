public import CairnBase
public import CairnCheckpoint

/// Finds the order of the units of one network in which its weights are most like another's.
///
/// Coordinate descent after Ainsworth, Hayase and Srinivasa ("Git Re-Basin", ICLR 2023): one label after another gets the
/// best order given those of all others, until none gets a better one.
public struct WeightMatching: Sendable {
    /// What was found.
    public struct Result: Sendable {
        /// For ``PermutedReader`` over the second checkpoint.
        public var permutations: UnitPermutations
        /// The sum of the products of matched weights, at first and after every sweep.
        public var similarities: [Double]
        /// Whether the last sweep found nothing better.
        public var isSettled: Bool
    }

    private let spec: PermutationSpec
    /// The most sweeps over all labels.
    public var sweepLimit = 100

    /// - Throws: ``CairnError/Code/unsupported`` for a specification in which one label acts on two axes of one tensor, for
    ///   which the best order is not an assignment.
    public init(_ spec: PermutationSpec) throws(CairnError) {
        for (name, axes) in spec.axes {
            let labels = axes.compactMap { $0?.label }
            guard Set(labels).count == labels.count else {
                throw CairnError(
                    .unsupported, "one permutation acts on two axes of a tensor",
                    .init(tensor: name, advice: "leave that label in its order"))
            }
        }
        self.spec = spec
    }

    private static func list(_ counts: [String: Int]) -> String {
        counts.sorted { ExactString($0.key) < ExactString($1.key) }.map { "\($0.value) \($0.key)" }
            .joined(separator: ", ")
    }

    /// Matches the units of `second` to those of `first`.
    ///
    /// Holds the tensors of the specification, of both, in single precision. Experts whose hidden units are rearranged
    /// as well are compared each with each, in the best order for the pair: that is one assignment for every two.
    ///
    /// - Parameter generator: Draws the order in which labels are visited.
    /// - Throws: As ``PermutationSpec/unitCounts(in:)``, and what reading throws; ``CairnError/Code/invalidArgument``, naming
    ///   the label, for weights that are not finite.
    public func match(
        _ second: any CheckpointReader, to first: any CheckpointReader, using generator: inout some RandomNumberGenerator
    ) throws -> Result {
        let counts = try spec.unitCounts(in: first)
        let others = try spec.unitCounts(in: second)
        guard others == counts else {
            throw CairnError(
                .mismatch, "the two checkpoints have different numbers of units",
                .init(
                    file: second.source, expected: "\(Self.list(counts)) as in \(first.source)",
                    found: Self.list(others)))
        }
        let network = try MatchedNetwork(spec, first, second)
        var orders = counts.mapValues { Array(0..<$0) }
        var total = network.similarity(orders)
        var similarities = [total]
        var isSettled = false
        for _ in 0..<max(1, sweepLimit) where !isSettled {
            isSettled = true
            for label in spec.labels.shuffled(using: &generator) {
                let step: MatchedNetwork.Step
                do {
                    step = try network.step(label, count: counts[label] ?? 0, orders)
                } catch let error as CairnError {
                    throw error.adding(.init(file: "\(first.source), \(second.source)", tensor: label))
                }
                // Differences of rounding are not an improvement.
                guard step.after > step.before + 1e-9 * max(1, abs(step.before)) else { continue }
                orders.merge(step.orders) { $1 }
                total += step.after - step.before
                isSettled = false
            }
            similarities.append(total)
        }
        return Result(
            permutations: UnitPermutations(orders), similarities: similarities, isSettled: isSettled)
    }
}
