import CairnTensor
import CairnTrain
import Testing

@Suite struct TransformerTrainingTests {
    @Test func lossFallsWellBelowThatOfGuessing() throws {
        let text = try TextDataset(text: Fixture.bytes("kjv.txt"), context: 32)
        let model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: 32, layers: 2, heads: 2, width: 32)
        let trainer = try Trainer(
            transformer: model, text: text, optimizer: .adamW(),
            schedule: LearningRateSchedule(peak: 3e-3, warmupSteps: 20))
        let before = trainer.evaluate(limit: 64).loss
        try trainer.train(steps: 300)
        let after = trainer.evaluate(limit: 64).loss
        #expect(before > 4)
        #expect(after < 2.3, "\(before) to \(after)")
    }
}
