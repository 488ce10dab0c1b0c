import CairnBase
import CairnTensor
import CairnTrain
import Testing

/// Averages of the weights along a run.
@Suite struct WeightAverageTests {
    @Test(arguments: [false, true], WeightPrecision.allCases)
    func theMovingAverageFollowsTheExactWeights(warmsUp: Bool, precision: WeightPrecision) throws {
        let trainer = try TrainingCase(
            model: .tied, precision: precision, average: WeightAverage(decay: 0.9, warmsUp: warmsUp)
        ).makeTrainer()
        let name = "model.layers.0.mlp.up.weight"
        let exactName = precision == .float32 ? name : "optimizer.master.\(name)"
        var expected: [Double] = []
        #expect(try trainer.averagedParameters() == nil)
        for count in 0..<15 {
            try trainer.step()
            let weights = try trainer.state().tensorsByName[exactName]?.elements(as: Float.self) ?? []
            let decay = count == 0 ? 0 : warmsUp ? min(0.9, (1 + Double(count)) / (10 + Double(count))) : 0.9
            expected =
                count == 0
                ? weights.map { Double($0) } : zip(expected, weights).map { decay * $0 + (1 - decay) * Double($1) }
            let average = try trainer.state().tensorsByName["average.\(name)"]?.elements(as: Float.self) ?? []
            #expect(average.count == expected.count)
            #expect(zip(expected, average).allSatisfy { abs($0 - Double($1)) < 1e-6 })
        }
        let rounded = try #require(try trainer.averagedParameters()?[name])
        #expect(rounded.scalarType == (precision == .float32 ? .f32 : .bf16))
    }

    /// What a resume with other constants would silently change, or lose, is refused.
    @Test func anAverageOfAnotherKindIsRefused() throws {
        func trainer(_ average: WeightAverage?) throws -> Trainer {
            try TrainingCase(model: .tied, average: average).makeTrainer()
        }
        let first = try trainer(WeightAverage(decay: 0.9))
        try first.train(steps: 3)
        let state = first.state()
        for other in [nil, WeightAverage(decay: 0.99), WeightAverage(decay: 0.9, warmsUp: false)] {
            let error = #expect(throws: CairnError.self) {
                try trainer(other).restore(tensors: state.tensorsByName, values: state.values)
            }
            #expect(error?.code == .mismatch)
        }
        let plain = try trainer(nil)
        try plain.train(steps: 3)
        let error = #expect(throws: CairnError.self) {
            try first.restore(tensors: plain.state().tensorsByName, values: plain.state().values)
        }
        #expect(error?.code == .incomplete)
        #expect(throws: CairnError.self) { try trainer(WeightAverage(decay: 1)) }
        // It is not part of the optimizer's state.
        let fresh = try trainer(WeightAverage(decay: 0.9))
        try fresh.restore(tensors: state.tensorsByName, values: state.values, withoutOptimizer: true)
        let name = "average.model.embedding.weight"
        #expect(fresh.state().tensorsByName[name] == state.tensorsByName[name])
    }

    @Test func theMeanOfTheLatestWeightsIsTheirMean() throws {
        let trainer = try TrainingCase(model: .tied).makeTrainer()
        var latest = try LatestWeights(count: 3, spacing: 2)
        var seen: [[Float]] = []
        let name = "model.final_norm.weight"
        try trainer.train(steps: 11) { _ in
            latest.note(trainer.stepCount, trainer.parameters)
            if trainer.stepCount % 2 == 0 {
                seen.append(try trainer.state().tensorsByName[name]?.elements(as: Float.self) ?? [])
            }
            #expect(try (latest.mean() == nil) == (trainer.stepCount < 6))
        }
        #expect(latest.steps == [6, 8, 10])
        let mean = try #require(try latest.mean())
        let expected = seen[2].indices.map { (Double(seen[2][$0]) + Double(seen[3][$0]) + Double(seen[4][$0])) / 3 }
        let found = try #require(mean[name]).elements(as: Float.self)
        #expect(zip(expected, found).allSatisfy { abs($0 - Double($1)) < 1e-7 })
        // Evaluating it leaves the run as it is.
        let before = trainer.state()
        let other = try trainer.evaluate(weights: mean, limit: 4)
        #expect(other != trainer.evaluate(limit: 4))
        ResumeTests.expectEqual(trainer.state(), before, "after an evaluation of other weights")
        #expect(throws: CairnError.self) { try LatestWeights(count: 0, spacing: 1) }
    }
}
