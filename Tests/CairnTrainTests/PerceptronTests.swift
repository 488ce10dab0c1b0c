import CairnTrain
import Testing

@Suite struct PerceptronTests {
    @Test(arguments: [
        ([], PerceptronConfiguration.Activation.gelu), ([9], .gelu), ([20, 17], .gelu), ([12, 8, 7], .gelu), ([16], .relu),
    ])
    func gradientsMatchDifferences(hidden: [Int], activation: PerceptronConfiguration.Activation) {
        var configuration = PerceptronConfiguration(hidden: hidden, activation: activation)
        configuration.inputs = 6
        configuration.classes = 4
        var random = PhiloxGenerator(key: 8)
        var batch = Batch()
        batch.exampleCount = 33
        batch.features = (0..<33 * 6).map { _ in Float(random.normal()) }
        batch.targets = (0..<33).map { _ in Int32.random(in: 0..<4, using: &random) }
        // ReLU has a corner: a large step would take sums across it.
        expectGradientsMatchDifferences(
            of: Perceptron(configuration), on: batch, seed: 3, step: activation == .relu ? 0.001 : 0.02)
    }

    @Test(arguments: PerceptronConfiguration.Activation.allCases)
    func learnsToTellDigitsApart(activation: PerceptronConfiguration.Activation) throws {
        let digits = try DigitsDataset(csv: Fixture.bytes("digits.csv"))
        var options = TrainingOptions()
        options.batchSize = 32
        let trainer = try Trainer(
            classifier: PerceptronConfiguration(hidden: [64, 32], activation: activation), digits: digits,
            optimizer: .adamW(weightDecay: 0.01), schedule: LearningRateSchedule(peak: 3e-3), options: options)
        try trainer.train(steps: 900)
        #expect(trainer.evaluate().accuracy > 0.95)
    }
}
