import CairnBase
import CairnCheckpoint
import CairnTensor

/// Small training states with something of everything.
enum SampleStates {
    /// Two float tensors, integers, one tied name and values; `shift` is added to the first element of `layer.weight`.
    static func state(shift: Float = 0) throws -> TrainingState {
        var state = TrainingState()
        state.set(try Tensor([1 + shift, 2, 3, 4, 5, 6] as [Float], [2, 3]), for: "layer.weight")
        state.set(try Tensor([0, .nan, -.infinity, 0.5] as [Float], [4]), for: "layer.bias")
        state.set(try Tensor([7, -8] as [Int64], [2]), for: "tokens")
        state.tie("head.weight", to: "layer.weight")
        state.set(.integer(400), for: "step")
        state.set(.double(0.001), for: "schedule.rate")
        return state
    }

    /// A run with checkpoints of these steps; the metric `loss` falls with the step.
    static func run(at path: String, steps: [Int]) throws {
        let store = CheckpointStore(path: path)
        for step in steps {
            var options = SaveOptions()
            options.metrics = ["loss": 1 / Double(step + 1)]
            try store.save(try state(shift: Float(step)), step: step, options: options)
        }
    }
}
