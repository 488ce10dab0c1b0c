import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// A mixture of experts whose experts move among more and fewer owners.
@Suite struct ExpertReshardTests {
    private static let expertCount = 8

    /// Expert `number`: two rows of three.
    private static func expert(_ number: Int) throws -> Tensor {
        try Tensor((0..<6).map { Float(100 * number + $0) }, [2, 3])
    }

    /// The experts of a layer stacked, `[expert, out, in]`, cut over `ep`; the experts of another layer one by one, each on
    /// the coordinate that owns it; and a router that all have.
    private static func tensors(_ mesh: DeviceMesh) throws -> [PlacedTensor] {
        let owners = mesh.size(of: "ep") ?? 1
        var tensors = [
            PlacedTensor(
                name: "layers.0.experts.weight", scalarType: .f32, shape: [8, 2, 3],
                layout: try Layout(mesh, ["ep": .shard(0)])),
            PlacedTensor(name: "layers.0.router", scalarType: .f32, shape: [8, 3], layout: .replicated(on: mesh)),
        ]
        for number in 0..<expertCount {
            let owner = number * owners / expertCount
            tensors.append(
                PlacedTensor(
                    name: "layers.1.experts.\(number).weight", scalarType: .f32, shape: [2, 3],
                    layout: try Layout(mesh, ["ep": .present(on: [owner])])))
        }
        return tensors
    }

    @Test func expertsMoveFromFourOwnersToTwoToOneAndBack() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var state = TrainingState()
        let stack = try Tensor((0..<8).flatMap { expert in (0..<6).map { Float(100 * expert + $0) } }, [8, 2, 3])
        state.set(stack, for: "layers.0.experts.weight")
        state.set(try Tensor((0..<24).map { Float(-$0) }, [8, 3]), for: "layers.0.router")
        for number in 0..<Self.expertCount {
            state.set(try Self.expert(number), for: "layers.1.experts.\(number).weight")
        }
        try store.save(state, step: 0)
        // Each load is of what the ranks before saved.
        for (step, ranks) in [4, 2, 1, 2, 4].enumerated() {
            let mesh = try DeviceMesh(["ep": ranks])
            let tensors = try Self.tensors(mesh)
            _ = try ThreadCommunicator.run(ranks: ranks) { communicator in
                let rank = communicator.rank
                let loaded = try ShardedState(reading: store.open(step: step), rank: rank, tensors: tensors)
                let owned = rank * 8 / ranks..<(rank + 1) * 8 / ranks
                let expected = try Tensor(
                    owned.flatMap { expert in (0..<6).map { Float(100 * expert + $0) } }, [8 / ranks, 2, 3])
                #expect(loaded.local("layers.0.experts.weight") == expected, "rank \(rank) of \(ranks)")
                #expect(loaded.local("layers.0.router")?.shape == [8, 3])
                for number in 0..<8 {
                    let local = loaded.local("layers.1.experts.\(number).weight")
                    #expect(local == (owned.contains(number) ? try Self.expert(number) : nil), "rank \(rank) of \(ranks)")
                }
                return try ShardedStore(store, over: communicator).save(loaded, step: step + 1)
            }
            let whole = try store.load(step: step + 1)
            #expect(whole == state, "\(ranks) owners")
            // Each expert is in its owner's file and in no other.
            let reader = try store.open(step: step + 1)
            for number in 0..<8 {
                let fragments = try reader.fragments(of: "layers.1.experts.\(number).weight", intersecting: nil)
                #expect(fragments.map(\.file) == [number * ranks / 8])
            }
        }
        // The same without ranks.
        let mesh = try DeviceMesh(["ep": 2])
        try Resharder(reading: store.open(step: 5), tensors: Self.tensors(mesh)).write(to: store, step: 6)
        #expect(try store.load(step: 6) == state)
    }
}
