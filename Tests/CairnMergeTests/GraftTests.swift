import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Checkpoints of parts of several.
@Suite struct Graft {
    private static func store() throws -> CheckpointStore {
        let store = CheckpointStore(storage: MemoryStorage(), name: "run")
        for step in [1, 2, 3] {
            var state = TrainingState()
            for expert in 0..<4 {
                state.set(Tensor([Float(step), Float(expert)]), for: "experts.\(expert).weight")
                state.set(Tensor([Float(-step)]), for: "experts.\(expert).bias")
            }
            state.set(Tensor([Int64(step)]), for: "router")
            if step == 3 { state.set(Tensor([Float(9)]), for: "experts.4.weight") }
            state.set(.integer(Int64(step)), for: "step")
            try store.save(state, step: step)
        }
        return store
    }

    @Test func eachPartIsTheOneOfItsCheckpointAndAllElseTheBases() throws {
        let store = try Self.store()
        let grafted = try GraftedReader(
            MergeInput(store.open(step: 2)),
            taking: [
                .init(MergeInput(store.open(step: 1)), ["experts.0.*", "experts.1.weight"]),
                .init(MergeInput(store.open(step: 3)), ["experts.4.*"]),
            ])
        let state = try TrainingState(reading: grafted)
        func numbers(_ name: String) throws -> [Float] { try state.tensor(name).elements(as: Float.self) }
        #expect(try numbers("experts.0.weight") == [1, 0] && numbers("experts.0.bias") == [-1])
        #expect(try numbers("experts.1.weight") == [1, 1] && numbers("experts.1.bias") == [-2])
        #expect(try numbers("experts.2.weight") == [2, 2])
        #expect(try numbers("experts.4.weight") == [9], "what the base lacks is added")
        #expect(try state.value("step").int == 2)
        #expect(grafted.lineage.operation == "graft" && grafted.lineage.parents.map(\.step) == [2, 1, 3])
        #expect(try grafted.verify(deep: true) { _ in }.isValid)
        // Region by region as a whole.
        let bulk = try TrainingState(reading: SelectedReader(grafted, include: ["experts.0.weight"]))
        #expect(try bulk.tensor("experts.0.weight") == state.tensor("experts.0.weight"))
    }

    @Test func whatDoesNotFitIsRefusedByName() throws {
        let store = try Self.store()
        let other = CheckpointStore(storage: MemoryStorage(), name: "other")
        var state = TrainingState()
        state.set(Tensor([Float(1)]), for: "experts.0.weight")
        state.set(Tensor([1.5] as [Double]), for: "router")
        try other.save(state, step: 1)
        let base = MergeInput(try store.open(step: 2))
        func refused(_ parts: [GraftedReader.Part]) -> CairnError? {
            refusal { _ = try GraftedReader(base, taking: parts) }
        }
        let foreign = MergeInput(try other.open(step: 1))
        #expect(refused([.init(foreign, ["nothing.*"])])?.code == .notFound)
        #expect(refused([.init(foreign, ["experts.0.weight"])])?.context.tensor == "experts.0.weight")
        #expect(refused([.init(foreign, ["router"])])?.code == .mismatch)
        #expect(refused([.init(foreign, ["experts.*"])])?.code == .notFound, "the base has more that the pattern fits")
        let same = MergeInput(try store.open(step: 1))
        #expect(refused([.init(same, ["experts.0.*"]), .init(same, ["*.weight"])])?.code == .mismatch)
    }
}
