import CairnBase
public import CairnCheckpoint

extension PermutationSpec {
    /// How far outputs were apart in a check, in which label's check.
    public struct Deviation: Sendable, Hashable {
        /// The label that was rearranged by itself; `nil` for all at once.
        public var label: String?
        /// The greatest difference of outputs, relative to the greatest output.
        public var relative: Double
    }

    /// Whether a network computes the same with its units in random orders, each label by itself and all at once.
    ///
    /// - Parameters:
    ///   - tolerance: How far outputs may be apart, relative to the greatest.
    ///   - evaluate: The network's outputs, on whatever inputs, for weights that it reads.
    /// - Returns: What went beyond the tolerance, the worst first; nothing for a right specification.
    /// - Throws: As ``unitCounts(in:)``, and what `evaluate` throws.
    public func check(
        _ reader: any CheckpointReader, tolerance: Double = 1e-4, generator: inout some RandomNumberGenerator,
        evaluating evaluate: (any CheckpointReader) throws -> [Double]
    ) throws -> [Deviation] {
        let expected = try evaluate(reader)
        let scale = max(expected.lazy.map(abs).max() ?? 0, .leastNormalMagnitude)
        let all = try UnitPermutations(randomFor: self, in: reader, using: &generator)
        var deviations: [Deviation] = []
        for label in labels.map(Optional.some) + [nil] {
            let chosen = label.map { label in UnitPermutations(all.orders.filter { $0.key == label }) } ?? all
            let outputs = try evaluate(PermutedReader(reader, chosen, by: self))
            guard outputs.count == expected.count else {
                throw CairnError(
                    .mismatch, "the network has another number of outputs with its units rearranged",
                    .init(expected: "\(expected.count)", found: "\(outputs.count)"))
            }
            let worst = zip(outputs, expected).reduce(0.0) { worst, pair in
                let difference = abs(pair.0 - pair.1) / scale
                return difference.isNaN ? .infinity : max(worst, difference)
            }
            if worst > tolerance { deviations.append(Deviation(label: label, relative: worst)) }
        }
        return deviations.sorted { $0.relative > $1.relative }
    }
}
