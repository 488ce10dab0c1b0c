import Cairn
import CairnTrain

/// The losses of checkpoints on a held-out part of a text.
struct HeldOutLoss {
    private let trainer: Trainer

    /// - Parameter limit: At most so many windows.
    init(_ model: TransformerConfiguration, _ text: TextDataset, _ part: HeldOutPart.Part, limit: Int) throws {
        trainer = try Trainer(
            Transformer(model), HeldOutPart(text: text, part: part, limit: limit), tokenizer: text.tokenizer,
            optimizer: .sgd(), schedule: LearningRateSchedule(peak: 0), options: TrainingOptions())
    }

    /// Reads the weights of a checkpoint, or of a merge that is computed as it is read, and evaluates them.
    func callAsFunction(_ reader: any CheckpointReader) throws -> Double {
        var weights: [String: Tensor] = [:]
        for (name, _) in trainer.parameters { weights[name] = try reader.tensor(name) }
        return try trainer.evaluate(weights: weights).loss
    }
}
