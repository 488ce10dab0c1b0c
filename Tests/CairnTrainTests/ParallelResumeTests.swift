import CairnBase
import CairnLayout
import CairnTensor
import CairnTrain
import Testing

@Suite struct ParallelResumeTests {
    @Test(arguments: [
        ParallelCase(mesh: "tp=2,dp=2", zero: true, optimizer: .muon(), precision: .bfloat16WithMaster),
        ParallelCase(mesh: "dp=2,pp=2", zero: true), ParallelCase(mesh: "tp=3", hasOtherOptions: true),
        ParallelCase(mesh: "dp=2,ep=2", zero: true, optimizer: .muon(), experts: 4),
    ])
    func aRestoredRunGoesOnBitForBit(_ run: ParallelCase) throws {
        let ranks = try run.run { trainer in
            let middle = try RankState(trainer, steps: 6)
            return (middle: middle, end: try RankState(trainer, steps: 6))
        }
        let resumed = try run.run { trainer in
            try trainer.train(steps: 2)
            let rank = ranks[trainer.rank].middle
            try trainer.restore(local: rank.local, values: rank.values)
            #expect(trainer.localTensors == rank.local)
            #expect(trainer.values == rank.values)
            return try RankState(trainer, steps: 6)
        }
        for (one, other) in zip(ranks, resumed) {
            #expect(one.end.local == other.local)
            #expect(one.end.values == other.values)
            #expect(one.end.losses == other.losses)
        }
    }

    /// One rank, then several meshes one after the other, then one rank again: all the time the same run.
    @Test(
        arguments: [
            (nil, ["tp=3,dp=2", "pp=2,tp=2", "dp=3"]), (5, ["ep=3", "dp=2,ep=2", "pp=2,tp=2"]),
        ] as [(Int?, [String])])
    func aRunMovesFromMeshToMesh(experts: Int?, meshes: [String]) throws {
        var run = ParallelCase(mesh: "dp=1", optimizer: .muon(), experts: experts)
        let single = try run.makeTrainer()
        try single.train(steps: 20)
        let beginning = try run.makeTrainer()
        try beginning.train(steps: 4)
        var values = beginning.state().values
        var tensors = beginning.state().tensorsByName
        for (mesh, zero) in zip(meshes, [true, false, true]) {
            run.mesh = mesh
            run.zero = zero
            let (wholes, settings) = (tensors, values)
            let ranks = try run.run { trainer in
                var local: [String: Tensor] = [:]
                for placed in trainer.placedTensors {
                    let whole = try #require(wholes[placed.name])
                    local[placed.name] = try WholeTensor.part(placed, of: whole, rank: trainer.rank)
                }
                try trainer.restore(local: local, values: settings)
                return try RankState(trainer, steps: 4)
            }
            values = ranks[0].values
            for placed in ranks[0].placed { tensors[placed.name] = try WholeTensor.join(placed, ranks.map(\.local)) }
        }
        let end = try run.makeTrainer()
        try end.restore(tensors: tensors, values: values)
        #expect(end.stepCount == 16)
        try end.train(steps: 4)
        #expect(end.loader == single.loader)
        #expect(end.lossHistory.count == 20)
        for (one, many) in zip(single.lossHistory, end.lossHistory) { #expect(abs(one - many) < 1e-5 * one) }
    }

    @Test func everyExampleIsSeenOnceAnEpochWhateverTheRanks() throws {
        var run = ParallelCase(mesh: "dp=2")
        let count = try run.makeTrainer().loader.exampleCount
        var seen: [Int] = []
        var state: RankState?
        for mesh in ["dp=2", "tp=2,dp=3", "dp=1", "dp=4"] {
            run.mesh = mesh
            let last = state
            let steps = mesh == "dp=4" ? (2 * count - seen.count).dividedRoundingUp(by: run.batchSize) : 5
            let ranks = try run.run { trainer in
                if let last {
                    // Only the position matters here.
                    try trainer.restore(local: trainer.localTensors, values: last.values)
                }
                var examples: [[Int]] = []
                for _ in 0..<steps {
                    try trainer.step()
                    examples.append(trainer.isFirstReplica ? trainer.lastExamples : [])
                }
                return (examples: examples, state: try RankState(trainer, steps: 0))
            }
            for step in 0..<steps { for rank in ranks { seen += rank.examples[step] } }
            state = ranks[0].state
        }
        #expect(seen.count >= 2 * count)
        for epoch in 0..<2 {
            #expect(Set(seen[epoch * count..<(epoch + 1) * count]) == Set(0..<count), "epoch \(epoch)")
        }
    }

    @Test func aStateThatDoesNotFitIsRefusedAndNamed() throws {
        let run = ParallelCase(mesh: "dp=2", zero: true)
        let refusals = try run.run { trainer in
            let state = try RankState(trainer, steps: 1)
            let name = "optimizer.exp_avg.model.embedding.weight"
            var missing = state.local
            missing[name] = nil
            var surplus = state.local
            surplus["model.extra"] = Tensor([Float(1)])
            var misshapen = state.local
            misshapen["model.final_norm.weight"] = Tensor([Float(1)])
            for (tensors, expected) in [
                (missing, name), (surplus, "model.extra"), (misshapen, "model.final_norm.weight"),
            ] {
                let error = #expect(throws: CairnError.self) {
                    try trainer.restore(local: tensors, values: state.values)
                }
                #expect(error?.context.tensor == expected)
            }
            #expect(trainer.localTensors == state.local)
            try trainer.restore(
                local: state.local.filter { !$0.key.hasPrefix("optimizer.") }, values: state.values,
                withoutOptimizer: true)
            return trainer.localTensors.filter { $0.key.contains("exp_avg") }.values.allSatisfy {
                (try? $0.elements(as: Float.self).allSatisfy { $0 == 0 }) == true
            }
        }
        #expect(refusals == [true, true])
    }
}
