public import CairnBase
public import CairnTensor

/// An exponential moving average of the weights, kept in 32-bit floats beside them: a ← d · a + (1 − d) · w after each
/// step, of the exact weights where the model has rounded ones.
///
/// It is part of the state, with its function, its constants and how many steps it has seen, so that a resumed run goes
/// on with the same average.
public struct WeightAverage: Sendable, Hashable {
    /// How much of the average is kept in a step.
    package var decay: Double
    /// Whether the first steps keep less, (1 + n) / (10 + n) after n of them, so that the start is soon forgotten.
    package var warmsUp: Bool

    public init(decay: Double = 0.999, warmsUp: Bool = true) {
        self.decay = decay
        self.warmsUp = warmsUp
    }

    /// How much of the average the next step keeps, after `count` of them; the first one keeps nothing.
    func decay(after count: Int) -> Double {
        if count == 0 { return 0 }
        return warmsUp ? min(decay, (1 + Double(count)) / (10 + Double(count))) : decay
    }

    func validate() throws(CairnError) {
        guard decay >= 0, decay < 1 else {
            throw CairnError(
                .invalidArgument, "the decay of an average is out of range",
                .init(expected: "0 or more, less than 1", found: "\(decay)"))
        }
    }

    func value(count: Int) -> Value {
        .dictionary([
            "kind": "exponential", "decay": .double(decay), "warms_up": .bool(warmsUp), "count": .integer(Int64(count)),
        ])
    }
}

/// The weights at the latest of equally spaced steps, and their mean: LAWA (Kaddour 2022).
///
/// Keeping them costs no copy: tensors that are still held here are updated elsewhere.
package struct LatestWeights: Sendable {
    /// How many are kept.
    package let count: Int
    /// How many steps lie between them.
    package let spacing: Int
    private var kept: [(step: Int, weights: [(name: String, tensor: Tensor)])] = []

    /// - Throws: ``CairnError/Code/invalidArgument`` unless both are at least one.
    package init(count: Int, spacing: Int) throws(CairnError) {
        guard count > 0, spacing > 0 else {
            throw CairnError(
                .invalidArgument, "an average needs weights, and steps between them",
                .init(found: "\(count) weights, every \(spacing) steps"))
        }
        self.count = count
        self.spacing = spacing
    }

    /// The steps whose weights are kept, the oldest first.
    package var steps: [Int] { kept.map(\.step) }

    /// Keeps the weights after a step if it is one of those.
    package mutating func note(_ step: Int, _ weights: @autoclosure () -> [(name: String, tensor: Tensor)]) {
        guard step % spacing == 0, kept.last?.step != step else { return }
        kept.append((step, weights()))
        if kept.count > count { kept.removeFirst() }
    }

    /// The mean, summed in 64 bits, in the weights' type; `nil` until as many are kept as are wanted.
    package func mean() throws -> [String: Tensor]? {
        guard kept.count == count, let first = kept.first else { return nil }
        var means: [String: Tensor] = [:]
        for (index, (name, model)) in first.weights.enumerated() {
            var sums = [Double](repeating: 0, count: model.shape.elementCount)
            for (_, weights) in kept {
                let values = try weights[index].tensor.converted(to: .f32).elements(as: Float.self)
                for place in sums.indices { sums[place] += Double(values[place]) }
            }
            let scale = 1 / Double(count)
            means[name] = try Tensor(sums.map { Float($0 * scale) }, model.shape).converted(to: model.scalarType)
        }
        return means
    }
}

extension Trainer {
    /// The moving average of the weights, in the weights' type; `nil` without one, and before the first step.
    package func averagedParameters() throws -> [String: Tensor]? {
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
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for weights of another model.
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
