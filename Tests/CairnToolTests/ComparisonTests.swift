import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Testing

@Suite struct Comparison {
    @Test func equalCheckpointsExitWith0() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        let run = try ToolRun("diff", "run@4", "run/step-00000004", "--json", in: directory)
        #expect(run.exitCode == 0)
        #expect(try run.document().bool("equal"))
        #expect(try run.document().integer("equal_tensors") == 4)
    }

    @Test func aChangedElementIsMeasuredAndPlaced() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [0, 3])
        let run = try ToolRun("diff", "run@0", "run@3", "--include", "layer.weight", "--json", in: directory)
        #expect(run.exitCode == 1)
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-diff/1")
        let tensor = try document.array("differing_tensors")[0].asObject()
        #expect(try tensor.string("fqn") == "layer.weight")
        #expect(try tensor.integer("differing") == 1)
        #expect(try tensor.integer("elements") == 6)
        #expect(try tensor.double("max_abs") == 3)
        #expect(try tensor.double("max_rel") == 0.75)
        #expect(try tensor.array("first_index") == [.integer(0), .integer(0)])
        let tolerant = try ToolRun("diff", "run@0", "run@3", "--tolerance", "3", in: directory)
        #expect(tolerant.exitCode == 0, "\(tolerant.output)")
    }

    /// Doubles would round these distances away.
    @Test func longIntegersAreComparedExactly() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        for step in [1, 2] {
            var state = TrainingState()
            state.set(Tensor([1 << 53, step == 1 ? .min : .max] as [Int64]), for: "signed")
            state.set(Tensor([1 << 63 + UInt64(step), 7] as [UInt64]), for: "unsigned")
            try store.save(state, step: step)
        }
        let run = try ToolRun("diff", "run@1", "run@2", "--json", in: directory)
        let tensors = try run.document().array("differing_tensors").map { try $0.asObject() }
        #expect(try tensors.map { try $0.double("max_abs") } == [0x1p64, 1])
        #expect(try tensors.map { try $0.integer("differing") } == [1, 1])
        let tolerant = try ToolRun("diff", "run@1", "run@2", "--include", "unsigned", "--tolerance", "0.5", in: directory)
        #expect(tolerant.exitCode == 1)
    }

    @Test func whatOneSideLacksIsNamed() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        var state = try SampleStates.state()
        try store.save(state, step: 1)
        state["tokens"] = nil
        state.set(.integer(401), for: "step")
        state.set(Tensor([1] as [Float]), for: "added")
        try store.save(state, step: 2)
        let document = try ToolRun("diff", "run@1", "run@2", "--json", in: directory).document()
        #expect(document["tensors_only_in_first"] == .array([.string("tokens")]))
        #expect(document["tensors_only_in_second"] == .array([.string("added")]))
        #expect(try document.array("differing_values")[0].asObject().string("name") == "step")
    }

    @Test func typesDifferUnlessIgnored() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [0])
        _ = try ToolRun("convert", "run", "half.safetensors", "--to", "safetensors", "--dtype", "bf16", in: directory)
        #expect(try ToolRun("diff", "run", "half.safetensors", in: directory).exitCode == 1)
        // Every number of the sample is exact in BF16.
        #expect(try ToolRun("diff", "run", "half.safetensors", "--ignore-dtype", in: directory).exitCode == 0)
    }
}
