public import CairnBase
public import CairnTensor

extension Trainer {
    /// The moving average of the weights, in the weights' type; `nil` without one, and before the first step.
    public func averagedParameters() throws -> [String: Tensor]? {
        guard record.averageCount > 0 else { return nil }
        var averages: [String: Tensor] = [:]
        for (update, weight) in zip(updates, weights) {
            guard let average = update.average else { return nil }
            averages[update.name] = try average.converted(to: weight.scalarType)
        }
        return averages
    }

    /// How well a model with these weights instead does; see ``evaluate(_:limit:)``. The run itself stays as it is.
    ///
    /// - Throws: As ``replaceParameters(_:)``.
    public func evaluate(
        weights other: [String: Tensor], _ split: Split = .validation, limit: Int = .max
    ) throws(CairnError) -> Evaluation {
        try evaluate(weights: other, examples: 0..<min(max(0, limit), source.count(split)), of: split)
    }

    /// The same over a range of examples.
    package func evaluate(
        weights other: [String: Tensor], examples: Range<Int>, of split: Split = .validation
    ) throws(CairnError) -> Evaluation {
        let kept = weights
        defer {
            weights = kept
            expanded.update(kept)
        }
        try replaceParameters(other)
        return evaluate(split, examples)
    }

    /// How well the model does over a range of examples.
    package func evaluate(examples: Range<Int>, of split: Split = .validation) -> Evaluation {
        evaluate(split, examples)
    }
}
