import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnLayoutTesting
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// The place in the data of ranks that each go at their own pace.
@Suite struct RemainingSamplesTests {
    /// Ranks of any number, each with its own number of samples a step, until the epoch is over.
    @Test func everySampleIsDeliveredOnceHoweverOftenTheRanksChange() throws {
        let first = UInt64.random(in: 0...UInt64.max / 2)
        for seed in first..<first + 300 {
            var random = LayoutRandom(seed: seed)
            let count = random.pick(0...200)
            var left = RemainingSamples(count: count)
            var seen: [Int] = []
            while !left.isEmpty {
                let parts = random.pick(1...7)
                var ranks = (0..<parts).map { left.share($0, of: parts) }
                let sizes = ranks.map(\.count)
                #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1, "seed \(seed)")
                for _ in 0..<random.pick(1...4) {
                    for rank in ranks.indices { seen += ranks[rank].take(random.pick(0...9)) }
                }
                // Tensor parallelism: replicas save the same.
                let replicas = random.pick(1...3)
                let saved = ranks.flatMap { [RemainingSamples](repeating: $0, count: replicas) }
                left = try RemainingSamples(gathering: saved)
                #expect(try RemainingSamples(left.value) == left, "seed \(seed)")
            }
            #expect(seen.sorted() == Array(0..<count), "seed \(seed)")
        }
    }

    /// Saved by ranks of one mesh, continued by those of another.
    @Test func aCheckpointCarriesItFromMeshToMesh() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var seen: [Int] = []
        for (step, sizes) in [(dp: 4, tp: 1), (dp: 3, tp: 2), (dp: 1, tp: 1), (dp: 2, tp: 3)].enumerated() {
            let mesh = try DeviceMesh(["tp": sizes.tp, "dp": sizes.dp])
            let tensor = PlacedTensor(name: "w", scalarType: .f32, shape: [2], layout: .replicated(on: mesh))
            let taken = try ThreadCommunicator.run(ranks: mesh.rankCount) { communicator -> [Int] in
                let place = try #require(mesh.coordinate(ofRank: communicator.rank, along: "dp"))
                let all =
                    step == 0
                    ? RemainingSamples(count: 1000)
                    : try RemainingSamples(reading: store.open(step: step - 1), value: "samples")
                var own = all.share(place, of: sizes.dp)
                let delivered = own.take(step == 3 ? 1000 : 40 + 7 * place)
                var state = try ShardedState(rank: communicator.rank, rankCount: mesh.rankCount, tensors: [tensor])
                try state.set(Tensor([1, 2] as [Float]), for: "w")
                state.rankValues = [NamedValue(name: "samples", value: own.value)]
                try ShardedStore(store, over: communicator).save(state, step: step)
                // Replicas have delivered the same.
                return mesh.coordinate(ofRank: communicator.rank, along: "tp") == 0 ? delivered : []
            }
            seen += taken.flatMap { $0 }
        }
        #expect(seen.sorted() == Array(0..<1000))
    }

    @Test func whatContradictsItselfIsNamed() throws {
        let whole = RemainingSamples(count: 10)
        var behind = whole
        _ = behind.take(3)
        #expect {
            _ = try RemainingSamples(gathering: [RemainingSamples(count: 0), whole, behind])
        } throws: { error in
            let error = error as? CairnError
            return error?.code == .mismatch && error?.context.rank == 2
                && error?.context.found?.contains("3..<10") == true
        }
        for value in [3, [1], [2, 2], [3, 5, 5, 6], [5, 6, 1, 2], [-1, 2], ["a", "b"]] as [Value] {
            #expect(throws: CairnError.self, "\(value)") { try RemainingSamples(value) }
        }
        let store = CheckpointStore(storage: MemoryStorage(), name: "run")
        var state = TrainingState()
        state.set(Tensor([1] as [Float]), for: "w")
        try store.save(state, step: 1)
        #expect {
            _ = try RemainingSamples(reading: store.open(step: 1), value: "samples")
        } throws: { error in
            let error = error as? CairnError
            return error?.code == .notFound && error?.context.rank == 0 && error?.context.tensor == "samples"
        }
    }
}
