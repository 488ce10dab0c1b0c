import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import Testing

/// Which tensors of a training state are the model's.
@Suite struct ModelTensorsOfStates {
    private static func checkpoint(_ names: [String], values: [String] = []) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint("state", isMapped: true)
        for name in names { checkpoint.add(name, Tensor([1, 2] as [Float])) }
        checkpoint.values = values.sorted().map { NamedValue(name: $0, value: .integer(1)) }
        return checkpoint
    }

    /// Names of the model's tensors, and of the others, as each kind of software has them.
    @Test(arguments: [
        (["model.a.weight", "model.b"], ["optimizer.exp_avg.model.a.weight", "average.model.a.weight", "random"]),
        (["h.0.param", "h.0.fp32", "mask.buffer"], ["h.0.exp_avg", "h.0.exp_avg_sq"]),
        (["state_dict.h.weight"], ["optimizer_states.0.state.0.exp_avg", "callbacks.x", "loops.n"]),
        (["model_state_dict.w"], ["optimizer_state_dict.state.0.step", "rng_state"]),
        (["app.model.w"], ["app.optim.state.w.exp_avg"]),
        (["layers/dense/vars/0"], ["optimizer/vars/0", "optimizer/vars/1"]),
        (["model_weights/dense/kernel"], ["optimizer_weights/adam/m"]),
        (["fc.weight", "fc.bias"], ["optimizer.state.0.exp_avg", "torch_rng_state"]),
    ])
    func namesTell(model: [String], others: [String]) throws {
        let checkpoint = try Self.checkpoint(model + others)
        let found = try #require(ModelTensors(of: checkpoint))
        #expect(found.view(checkpoint).tensors.map(\.name) == model.sorted())
        #expect(found.leftOut.reduce(0) { $0 + $1.count } == others.count)
    }

    @Test(arguments: [
        ["model.layers.0.weight", "lm_head.weight"], ["a", "b"], ["encoder.optimizer.weight", "encoder.model.weight"],
        ["model.optimizer.weight", "model.w"], ["x.param", "y"], ["optimizer.w"], [],
    ])
    func namesThatTellNothingLeaveNothingOut(names: [String]) throws {
        let isState = names.contains { $0.hasPrefix("encoder.optimizer") }
        // Everything in one group may be a state by itself; a model with such a part has it further inside.
        #expect((ModelTensors(of: try Self.checkpoint(names)) == nil) == !isState)
    }

    @Test func valuesGoWithTheirTensors() throws {
        let checkpoint = try Self.checkpoint(
            ["model.w", "optimizer.m", "average.model.w"],
            values: ["model", "optimizer", "average", "step", "optimizer.kind", "rng"])
        let found = try #require(ModelTensors(of: checkpoint))
        #expect(found.view(checkpoint).values.map(\.name) == ["model", "step"])
        #expect(found.leftOutText == "average.… (1), optimizer.… (1)")
    }

    @Test func statisticsOfBatchesAreMentioned() throws {
        var inputs: [MergeInput] = []
        for count in [3, 5] as [Int64] {
            var checkpoint = MemoryCheckpoint("bn", isMapped: true)
            checkpoint.add("bn.running_mean", Tensor([Float(count)]))
            checkpoint.add("bn.running_var", Tensor([1] as [Float]))
            checkpoint.add("bn.num_batches_tracked", try Tensor([count], []))
            inputs.append(MergeInput(checkpoint))
        }
        let merged = try MergedCheckpoint(averaging: inputs)
        #expect(try merged.floats("bn.running_mean") == [4])
        #expect(try merged.tensor("bn.num_batches_tracked").elements(as: Int64.self) == [5])
        #expect(merged.notes.count == 1 && merged.notes[0].contains("2 statistics of batch normalization"))
        #expect(merged.notes[0].contains("1 num_batches_tracked"))
        // Any other counter has to agree.
        var other = MemoryCheckpoint("a", isMapped: true), another = MemoryCheckpoint("b", isMapped: true)
        other.add("steps", Tensor([1] as [Int64]))
        another.add("steps", Tensor([2] as [Int64]))
        let counters = try MergedCheckpoint(averaging: [MergeInput(other), MergeInput(another)])
        #expect(throws: CairnError.self) { try counters.tensor("steps") }
    }
}
