import CairnTensor
import CairnTrain
import Testing

@Suite struct ResumeTests {
    static func expectEqual(_ left: TrainerState, _ right: TrainerState, _ comment: Comment) {
        #expect(left.values == right.values, comment)
        #expect(left.tensors.map(\.name) == right.tensors.map(\.name), comment)
        for (first, second) in zip(left.tensors, right.tensors) {
            #expect(first.tensor == second.tensor, "\(comment): \(first.name)")
        }
    }

    @Test(arguments: TrainingCase.all)
    func aRestoredRunGoesOnBitForBit(_ run: TrainingCase) throws {
        let whole = try run.makeTrainer()
        try whole.train(steps: 13)
        let middle = whole.state()
        try whole.train(steps: 13)

        // Another seed, so that nothing is right by chance; then the stored seed must not matter either way.
        let resumed = try run.makeTrainer()
        try resumed.train(steps: 2)
        try resumed.restore(tensors: middle.tensorsByName, values: middle.values)
        Self.expectEqual(resumed.state(), middle, "just restored")
        try resumed.train(steps: 13)
        Self.expectEqual(resumed.state(), whole.state(), "after 13 more steps")
        #expect(resumed.lossHistory == whole.lossHistory)
        #expect(resumed.evaluate(limit: 8) == whole.evaluate(limit: 8))
    }

    @Test(arguments: [TrainingCase(model: .tied), TrainingCase(model: .perceptron, precision: .bfloat16WithMaster)])
    func twoRunsOfTheSameSeedHaveEqualBitsAndOthersDiffer(_ run: TrainingCase) throws {
        let first = try run.makeTrainer()
        let second = try run.makeTrainer()
        let other = try run.makeTrainer(seed: 2)
        for trainer in [first, second, other] { try trainer.train(steps: 10) }
        Self.expectEqual(first.state(), second.state(), "same seed")
        #expect(first.lossHistory != other.lossHistory)
    }

    @Test func aStateIsASnapshotThatCostsNoCopy() throws {
        let trainer = try TrainingCase(model: .transformer).makeTrainer()
        try trainer.train(steps: 3)
        let state = trainer.state()
        for (first, second) in zip(state.tensors, trainer.state().tensors) {
            #expect(first.tensor.sharesBytes(with: second.tensor), "\(first.name)")
        }
        let copies = try state.tensors.map { try $0.tensor.elements(as: Float.self) }
        try trainer.train(steps: 3)
        for ((name, tensor), copy) in zip(state.tensors, copies) {
            #expect(try tensor.elements(as: Float.self) == copy, "\(name) changed under the snapshot")
            #expect(trainer.state().tensorsByName[name] != tensor, "\(name) did not train")
        }
    }

    @Test func stepsWithoutASnapshotTouchNoFreshMemory() throws {
        let trainer = try TrainingCase(model: .transformer, optimizer: .muon(), precision: .bfloat16WithMaster)
            .makeTrainer()
        try trainer.train(steps: 3)
        let before = trainer.statePool.statistics.allocationCount
        try trainer.train(steps: 5)
        // Two threads may need scratch at once that one step had not.
        #expect(trainer.statePool.statistics.allocationCount <= before + 5)
    }

    @Test func optimizerStateMayBeLeftOutOnPurpose() throws {
        let run = TrainingCase(model: .tied, precision: .bfloat16WithMaster)
        let trainer = try run.makeTrainer()
        try trainer.train(steps: 9)
        let state = trainer.state()
        let fresh = try run.makeTrainer()
        try fresh.restore(
            tensors: state.tensorsByName.filter { !$0.key.hasPrefix("optimizer.") },
            values: state.values.filter { $0.key != "optimizer" }, withoutOptimizer: true)
        let restored = fresh.state()
        #expect(fresh.stepCount == 9)
        #expect(fresh.loader == trainer.loader)
        for (name, tensor) in restored.tensors {
            if name.hasPrefix("model.") { #expect(tensor == state.tensorsByName[name], "\(name)") }
            if name.contains("exp_avg") { #expect(try tensor.elements(as: Float.self).allSatisfy { $0 == 0 }) }
            if name.hasPrefix("optimizer.master.") {
                let weight = try #require(state.tensorsByName[String(name.dropFirst("optimizer.master.".count))])
                #expect(try tensor == weight.converted(to: .f32))
            }
        }
        try fresh.train(steps: 1)
    }
}
