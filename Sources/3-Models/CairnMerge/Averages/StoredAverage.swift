package import CairnBase
public import CairnCheckpoint
import CairnTensor

/// Which checkpoints of a run are averaged, and with which weights.
public struct StoredAverage: Sendable, Hashable {
    /// The weights of checkpoints in the order of their steps.
    public enum Weighting: Sendable, Hashable {
        /// All the same: latest weight averaging (Kaddour 2022), stochastic weight averaging (Izmailov et al., UAI 2018).
        case uniform
        /// What an exponential moving average that was updated at each of them would have: the first is copied.
        case exponential(decay: Double)
    }

    /// The first step that counts; earlier ones are left out.
    package var start: Int?
    /// The last step that counts; `nil` for the newest.
    package var end: Int?
    /// How far the steps are apart, counted back from the last; `nil` for all that are stored.
    package var spacing: Int?
    /// How many; `nil` for all.
    package var count: Int?
    package var weighting: Weighting

    public init(
        last count: Int? = nil, spacing: Int? = nil, start: Int? = nil, end: Int? = nil,
        weighting: Weighting = .uniform
    ) {
        self.count = count
        self.spacing = spacing
        self.start = start
        self.end = end
        self.weighting = weighting
    }

    /// The steps, ascending.
    ///
    /// - Parameter stored: What the run has, ascending.
    /// - Throws: ``CairnError/Code/notFound`` when a step that the spacing asks for is not stored or there are not as many
    ///   as asked for; ``CairnError/Code/invalidArgument`` for numbers that make no sense.
    package func steps(of stored: [Int], run: String = "") throws(CairnError) -> [Int] {
        if let count, count < 1 { throw invalid("at least one checkpoint is averaged", "\(count)") }
        if let spacing, spacing < 1 { throw invalid("the spacing must be at least 1", "\(spacing)") }
        let known = stored.filter { $0 >= (start ?? .min) && $0 <= (end ?? .max) }
        guard let newest = known.last else {
            throw CairnError(.notFound, "the run has no checkpoint in the range of steps", .init(file: run))
        }
        var steps: [Int]
        if let spacing {
            steps = []
            let set = Set(known)
            var step = newest
            while steps.count < count ?? .max, step >= max(start ?? 0, 0) {
                guard set.contains(step) else {
                    // Without a number the average goes back as far as the steps are there.
                    if count == nil, let oldest = known.first, step < oldest { break }
                    throw CairnError(
                        .notFound, "a step of the average is not stored",
                        .init(
                            file: run, expected: "step \(step), \(spacing) before another",
                            advice: "choose a spacing that the run has, or leave it out"))
                }
                steps.insert(step, at: 0)
                step -= spacing
            }
        } else {
            steps = count.map { Array(known.suffix($0)) } ?? known
        }
        if let count, steps.count < count {
            throw CairnError(
                .notFound, "the run has not as many checkpoints as are to be averaged",
                .init(file: run, expected: "\(count)", found: "\(steps.count)"))
        }
        return steps
    }

    /// The weights of so many checkpoints, oldest first; they add up to 1.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a decay outside 0 to 1.
    package func weights(count: Int) throws(CairnError) -> [Double] {
        switch weighting {
        case .uniform: return [Double](repeating: 1 / Double(count), count: count)
        case .exponential(let decay):
            guard decay >= 0, decay <= 1 else { throw invalid("the decay must be from 0 to 1", "\(decay)") }
            var weights = [Double](repeating: 0, count: count)
            for index in 0..<count {
                for earlier in 0..<index { weights[earlier] *= decay }
                weights[index] = index == 0 ? 1 : 1 - decay
            }
            return weights
        }
    }

    private func invalid(_ message: String, _ found: String) -> CairnError {
        CairnError(.invalidArgument, message, .init(found: found))
    }
}

extension MergedCheckpoint {
    /// The average of checkpoints of a run.
    ///
    /// It has the values of the last one. Which tensors are weights the caller knows: moments of an optimizer are usually left
    /// out by `view`.
    ///
    /// - Parameter view: What of each checkpoint takes part.
    /// - Throws: ``CairnError/Code/notFound`` when the run does not have the checkpoints that are asked for,
    ///   ``CairnError/Code/invalidArgument`` for numbers that make no sense, ``CairnError/Code/mismatch`` with everything in
    ///   which the checkpoints differ.
    public init(
        _ average: StoredAverage, of store: CheckpointStore, options: MergeOptions = MergeOptions(),
        viewing view: (any CheckpointReader) throws -> any CheckpointReader = { $0 }
    ) throws {
        let steps = try average.steps(of: store.steps(), run: store.name)
        let weights = try average.weights(count: steps.count)
        var inputs: [MergeInput] = []
        for step in steps {
            let reader = try store.open(step: step)
            inputs.append(
                MergeInput(
                    try view(reader),
                    parent: .init(step: step, saveID: reader.manifest.saveID, source: store.name)))
        }
        try self.init(stored: inputs, weights: weights, average, options: options)
    }

    /// The average of opened checkpoints of a run, oldest first.
    package init(
        stored inputs: [MergeInput], weights: [Double], _ average: StoredAverage, options: MergeOptions
    ) throws(CairnError) {
        // Equal weights as ones, which no rounding touches: the sum is divided once.
        let isUniform = weights.allSatisfy { $0 == weights.first }
        let merged = try MergedCheckpoint(averaging: inputs, weights: isUniform ? nil : weights, options: options)
        var details: [String: Value] = ["members": .integer(Int64(inputs.count))]
        if case .exponential(let decay) = average.weighting { details["decay"] = .double(decay) }
        self = merged.replacing(
            values: inputs.last?.reader.values ?? [],
            lineage: Lineage(operation: "average", parents: merged.lineage.parents, details: details))
    }
}
