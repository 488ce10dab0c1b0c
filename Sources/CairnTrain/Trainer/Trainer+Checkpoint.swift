public import CairnBase
public import CairnCheckpoint
import CairnTensor

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
    /// - Throws: As ``restore(tensors:values:withoutOptimizer:)``.
    public func restore(_ state: TrainingState, withoutOptimizer: Bool = false) throws(CairnError) {
        var tensors = Dictionary(state.tensors.map { ($0.name, $0.tensor) }, uniquingKeysWith: { first, _ in first })
        for (name, _) in state.ties { tensors[name] = try state.tensor(name) }
        let values = Dictionary(state.values.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        try restore(tensors: tensors, values: values, withoutOptimizer: withoutOptimizer)
    }
}
