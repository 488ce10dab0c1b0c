internal import CairnBase
public import CairnCheckpoint
internal import CairnLayout
internal import CairnTensor

extension ParallelTrainer {
    /// What this rank holds of everything that the next steps depend on, ready to be saved with the other ranks' parts.
    /// Copies no tensor.
    public var shardedState: ShardedState {
        get throws {
            var state = try ShardedState(rank: rank, rankCount: parallel.mesh.rankCount, tensors: placedTensors)
            for (name, tensor) in localTensors { try state.set(tensor, for: name) }
            state.values = values.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
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
    /// - Throws: As ``restore(local:values:withoutOptimizer:)``.
    public func restore(_ state: ShardedState, withoutOptimizer: Bool = false) throws {
        var local: [String: Tensor] = [:]
        for placed in state.tensors { local[placed.name] = state.local(placed.name) }
        let values = Dictionary(state.values.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        try restore(local: local, values: values, withoutOptimizer: withoutOptimizer)
    }
}
