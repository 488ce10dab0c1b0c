public import CairnBase
public import CairnCheckpoint
package import CairnTensor

/// Everything that a training run's next steps depend on.
package struct TrainerState: Sendable {
    /// Parameters (`model.…`), what the optimizer keeps of each (`optimizer.<slot>.model.…`) and their moving averages
    /// (`average.model.…`), by name.
    package var tensors: [(name: String, tensor: Tensor)]
    /// Names that stand for a tensor of another name.
    package var ties: [(name: String, target: String)]
    /// Counters, constants, positions: `trainer`, `model`, `data`, `loader`, `random`, `schedule`, `optimizer`, of a
    /// language model `tokenizer`, with a moving average `average`.
    package var values: [String: Value]
}

extension Trainer {
    /// The parameters, in the model's order.
    package var parameters: [(name: String, tensor: Tensor)] {
        zip(network.parameters, weights).map { (name: $0.name, tensor: $1) }
    }

    /// The whole state as of now. Copies no tensor; later steps leave it as it is.
    package func state() -> TrainerState {
        TrainerState(
            tensors: parameters + updates.flatMap(\.tensors), ties: network.ties, values: record.values)
    }

    /// Continues the run whose state this is. Model, data and options must be those of that run; schedule and
    /// optimizer constants are taken over.
    ///
    /// Nothing changes unless everything fits.
    ///
    /// - Parameters:
    ///   - tensors: those of ``TrainerState``, with or without the tied names.
    ///   - values: those of ``TrainerState``.
    ///   - withoutOptimizer: leaves the optimizer's part aside, whether it is there or not, and starts the optimizer
    ///     afresh; everything else is restored.
    /// - Throws: ``CairnError/Code/incomplete`` for what is missing, ``CairnError/Code/mismatch`` for what is too much or
    ///   of another type, shape or value; the error names it.
    package func restore(
        tensors: [String: Tensor], values: [String: Value], withoutOptimizer: Bool = false
    ) throws(CairnError) {
        try checkNames(tensors, withoutOptimizer: withoutOptimizer)
        let newRecord = try record.restored(from: values, withoutOptimizer: withoutOptimizer)
        var newWeights: [Tensor] = []
        for (name, old) in parameters { newWeights.append(try Self.take(name, like: old, from: tensors)) }
        for (name, target) in network.ties {
            guard let tied = tensors[name], let kept = tensors[target], tied != kept else { continue }
            throw CairnError(.mismatch, "a tied tensor differs from \"\(target)\"", .init(tensor: name))
        }
        var newUpdates = updates
        for index in newUpdates.indices {
            func take(_ name: String, _ old: Tensor) throws(CairnError) -> Tensor {
                try Self.take(name, like: old, from: tensors)
            }
            if withoutOptimizer {
                try newUpdates[index].replaceAverage(take)
            } else {
                try newUpdates[index].replace(take)
            }
        }

        weights = newWeights
        updates = newUpdates
        record = newRecord
        expanded.update(weights)
        if withoutOptimizer {
            do {
                try resetOptimizer()
            } catch {
                throw CairnError(wrapping: error, "the optimizer cannot be started")
            }
        }
    }

    /// Replaces the parameters and nothing else: to evaluate an average, or to start from another model.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` as ``restore(tensors:values:withoutOptimizer:)``
    ///   does.
    package func replaceParameters(_ tensors: [String: Tensor]) throws(CairnError) {
        var new: [Tensor] = []
        for (name, old) in parameters { new.append(try Self.take(name, like: old, from: tensors)) }
        weights = new
        expanded.update(weights)
    }

    private func checkNames(_ tensors: [String: Tensor], withoutOptimizer: Bool) throws(CairnError) {
        var known = Set(parameters.map(\.name)).union(network.ties.map(\.name))
        for update in updates { known.formUnion(update.tensors.map(\.name)) }
        for name in tensors.keys.sorted() where !known.contains(name) {
            if withoutOptimizer, name.hasPrefix("optimizer.") { continue }
            throw CairnError(.mismatch, "the stored state has a tensor that nothing reads", .init(tensor: name))
        }
    }

    /// The tensor of that name, which must have the type and shape of `old`.
    static func take(
        _ name: String, like old: Tensor, from tensors: [String: Tensor]
    ) throws(CairnError) -> Tensor {
        guard let tensor = tensors[name] else {
            throw CairnError(.incomplete, "the stored state lacks a tensor", .init(tensor: name))
        }
        guard tensor.scalarType == old.scalarType, tensor.shape == old.shape else {
            throw CairnError(
                .mismatch, "a stored tensor has another type or shape",
                .init(
                    tensor: name, expected: "\(old.scalarType)\(old.shape)",
                    found: "\(tensor.scalarType)\(tensor.shape)"))
        }
        return tensor
    }
}

extension Trainer {
    /// Everything that the next steps depend on, ready to be saved. Copies no tensor.
    public var trainingState: TrainingState {
        let current = state()
        var state = TrainingState()
        for (name, tensor) in current.tensors { state.set(tensor, for: name) }
        for (name, target) in current.ties { state.tie(name, to: target) }
        for (name, value) in current.values.sorted(by: { $0.key < $1.key }) { state.set(value, for: name) }
        return state
    }

    /// The names of ``trainingState``'s tensors in the order in which a step updates them: the order in which a snapshot is
    /// best drained.
    public var updateOrder: [String] {
        zip(parameters, updates).flatMap { parameter, update in [parameter.name] + update.tensors.map(\.name) }
    }

    /// Continues the run whose state this is.
    ///
    /// - Parameter withoutOptimizer: Starts the optimizer afresh and restores everything else.
    /// - Throws: ``CairnError/Code/incomplete`` for what is missing, ``CairnError/Code/mismatch`` for what is too much or
    ///   of another type, shape or value; the error names it.
    public func restore(_ state: TrainingState, withoutOptimizer: Bool = false) throws(CairnError) {
        var tensors = Dictionary(state.tensors.map { ($0.name, $0.tensor) }, uniquingKeysWith: { first, _ in first })
        for (name, _) in state.ties { tensors[name] = try state.tensor(name) }
        let values = state.values.byName
        try restore(tensors: tensors, values: values, withoutOptimizer: withoutOptimizer)
    }
}
