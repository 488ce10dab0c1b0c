internal import CairnBase
public import CairnCheckpoint
public import CairnLayout
package import CairnTensor

extension ParallelTrainer {
    /// All tensors of the state, the same list on every rank: parameters (`model.…`) and what the optimizer keeps of
    /// each (`optimizer.<slot>.model.…`), as a single ``Trainer`` names them.
    public var placedTensors: [PlacedTensor] { plan.tensors }

    /// Names that stand for a tensor of another name.
    package var ties: [(name: String, target: String)] { network.ties }

    /// Counters, constants, positions: the same on every rank, and as in ``TrainerState/values``.
    package var values: [String: Value] { record.values }

    /// This rank's part of each tensor that it holds some of. Copies no tensor; later steps leave them as they are.
    package var localTensors: [String: Tensor] {
        var tensors: [String: Tensor] = [:]
        for (parameter, weight) in zip(network.parameters, weights) { tensors[parameter.name] = weight }
        for (name, tensor) in updates.compactMap(\.?.tensors).joined() { tensors[name] = tensor }
        return tensors
    }

    /// Continues the run whose state this is, on whatever mesh that was: every rank gets its part of each
    /// tensor, as ``placedTensors`` says. Model, data and options must be those of that run; schedule and optimizer
    /// constants are taken over.
    ///
    /// Nothing changes on this rank unless everything fits.
    ///
    /// - Parameters:
    ///   - local: those of ``localTensors``.
    ///   - values: those of ``values``.
    ///   - withoutOptimizer: leaves the optimizer's part aside, whether it is there or not, and starts the optimizer
    ///     afresh; everything else is restored.
    /// - Throws: ``CairnError/Code/incomplete`` for what is missing, ``CairnError/Code/mismatch`` for what is too much
    ///   or of another type, shape or value; the error names it.
    package func restore(
        local tensors: [String: Tensor], values: [String: Value], withoutOptimizer: Bool = false
    ) throws {
        let known = localTensors
        for name in tensors.keys.sorted() where known[name] == nil {
            if withoutOptimizer, name.hasPrefix("optimizer.") { continue }
            throw CairnError(
                .mismatch, "the stored state has a tensor that this rank has no part of",
                .init(tensor: name, rank: rank))
        }
        let newRecord = try record.restored(from: values, withoutOptimizer: withoutOptimizer)
        let newWeights = try zip(network.parameters, weights).map { parameter, old throws(CairnError) in
            try Trainer.take(parameter.name, like: old, from: tensors)
        }
        var newUpdates = updates
        for index in newUpdates.indices {
            func take(_ name: String, _ old: Tensor) throws(CairnError) -> Tensor {
                try Trainer.take(name, like: old, from: tensors)
            }
            if withoutOptimizer {
                try newUpdates[index]?.replaceAverage(take)
            } else {
                try newUpdates[index]?.replace(take)
            }
        }
        weights = newWeights
        updates = newUpdates
        record = newRecord
        expanded.update(weights)
        if withoutOptimizer { try resetOptimizer() }
    }
}

extension ParallelTrainer {
    /// What this rank holds of everything that the next steps depend on, ready to be saved with the other ranks' parts.
    /// Copies no tensor.
    public var shardedState: ShardedState {
        get throws {
            var state = try ShardedState(rank: rank, rankCount: parallel.mesh.rankCount, tensors: placedTensors)
            for (name, tensor) in localTensors { try state.set(tensor, for: name) }
            state.values = values.sorted { $0.key < $1.key }.map { NamedValue(name: $0.key, value: $0.value) }
            state.ties = ties
            return state
        }
    }

    /// The names of this rank's tensors in the order in which a step updates them: the order in which a snapshot is best
    /// drained.
    public var updateOrder: [String] {
        memory.sections.flatMap(\.parameters).flatMap { index in
            [network.parameters[index].name] + (updates[index]?.tensors.map(\.name) ?? [])
        }
    }

    /// Continues the run whose state this is, on however many ranks that was.
    ///
    /// - Parameters:
    ///   - state: read for this rank and ``placedTensors``.
    ///   - withoutOptimizer: Starts the optimizer afresh and restores everything else.
    /// - Throws: ``CairnError/Code/incomplete`` for what is missing, ``CairnError/Code/mismatch`` for what is too much or
    ///   of another type, shape or value; the error names it.
    public func restore(_ state: ShardedState, withoutOptimizer: Bool = false) throws {
        var local: [String: Tensor] = [:]
        for placed in state.tensors { local[placed.name] = state.local(placed.name) }
        let values = state.values.byName
        try restore(local: local, values: values, withoutOptimizer: withoutOptimizer)
    }
}
