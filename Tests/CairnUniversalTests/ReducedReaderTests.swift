import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnStorage
import CairnTensor
import CairnUniversal
import Testing

/// Partial values that ranks saved, read as their sums and means.
@Suite struct ReducedReaderTests {
    /// Saved by dp=3, tp=2: each rank has partial values of its own, halves of them over tp.
    private func reader() throws -> CairnReader {
        let mesh = try DeviceMesh(["dp": 3, "tp": 2])
        let tensors = [
            PlacedTensor(
                name: "gradient", scalarType: .f32, shape: [4, 2],
                layout: try Layout(mesh, ["tp": .shard(0), "dp": .partial(.sum)])),
            PlacedTensor(
                name: "weight", scalarType: .bf16, shape: [4],
                layout: try Layout(mesh, ["dp": .partial(.mean), "tp": .shard(0)])),
            PlacedTensor(name: "plain", scalarType: .i64, shape: [1], layout: .replicated(on: mesh)),
        ]
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        _ = try ThreadCommunicator.run(ranks: 6) { communicator in
            let (dp, tp) = (communicator.rank / 2, communicator.rank % 2)
            var state = try ShardedState(rank: communicator.rank, rankCount: 6, tensors: tensors)
            let gradient = (0..<4).map { Float(100 * dp + 4 * tp + $0) }
            try state.set(Tensor(gradient, [2, 2]), for: "gradient")
            try state.set(Tensor([Float(dp * dp), Float(tp)]).converted(to: .bf16), for: "weight")
            try state.set(Tensor([5] as [Int64]), for: "plain")
            state.ties = [("same", "weight")]
            state.values = [NamedValue(name: "step", value: .integer(3))]
            try ShardedStore(store, over: communicator).save(state, step: 1)
        }
        return try store.open(step: 1)
    }

    @Test func sumsAndMeansHaveTheShapeOfTheTensor() throws {
        let stored = try reader()
        #expect(try stored.description(of: "gradient").shape == [3, 4, 2])
        let reduced = try ReducedReader(stored)
        #expect(
            reduced.tensors.map { "\($0.name) \($0.scalarType)\($0.shape)" } == [
                "gradient F32[4, 2]", "plain I64[1]", "same BF16[4]", "weight BF16[4]",
            ])
        #expect(
            try reduced.tensor("gradient").elements(as: Float.self) == (0..<8).map { Float(300 + 3 * $0) })
        // (0 + 1 + 4) / 3, rounded to BF16, and the coordinate along tp.
        let mean = try Tensor([Float(5) / 3, 0, Float(5) / 3, 1]).converted(to: .bf16)
        #expect(try reduced.tensor("weight") == mean)
        #expect(try reduced.tensor("same") == mean)
        #expect(try reduced.tensor("plain") == stored.tensor("plain"))
        #expect(reduced.values == stored.values)
        let region = try Region(offsets: [1, 1], shape: [2, 1])
        let part = try Tensor(.f32, [2, 1]) { try reduced.read("gradient", region: region, into: &$0) }
        #expect(try part.elements(as: Float.self) == [309, 315])
    }

    @Test func termsThatAreNoFloatsAreNamed() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        let layout = try Layout(DeviceMesh(["dp": 1]), ["dp": .partial(.sum)])
        let tensor = PlacedTensor(name: "counts", scalarType: .i64, shape: [2], layout: layout)
        _ = try ThreadCommunicator.run(ranks: 1) { communicator in
            var state = try ShardedState(rank: 0, rankCount: 1, tensors: [tensor])
            try state.set(Tensor([1, 2] as [Int64]), for: "counts")
            try ShardedStore(store, over: communicator).save(state, step: 1)
        }
        #expect {
            _ = try ReducedReader(store.open(step: 1))
        } throws: { error in
            (error as? CairnError)?.code == .unsupported && (error as? CairnError)?.context.tensor == "counts"
        }
    }
}
