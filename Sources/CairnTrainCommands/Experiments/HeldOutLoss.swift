import Cairn
import CairnTrain

/// The losses of checkpoints on a held-out part of a text.
struct HeldOutLoss {
    private let trainer: Trainer

    /// - Parameter limit: At most so many windows.
    /// - Throws: ``CairnError/Code/invalidArgument`` for a text that has none in that part.
    init(_ model: TransformerConfiguration, _ text: TextDataset, _ part: HeldOutPart.Half, limit: Int) throws {
        let held = HeldOutPart(text: text, part: part, limit: limit)
        guard held.count(.validation) > 0 else {
            throw CairnError(
                .invalidArgument, "a text is too short to search on one half of what is held out and report on the other",
                .init(
                    expected: "2 validation windows or more", found: "\(text.count(.validation))",
                    advice: "name a longer text"))
        }
        trainer = try Trainer(
            Transformer(model), held, tokenizer: text.tokenizer,
            optimizer: .sgd(), schedule: LearningRateSchedule(peak: 0), options: TrainingOptions())
    }

    /// Reads the weights of a checkpoint, or of a merge that is computed as it is read, and evaluates them.
    func callAsFunction(_ reader: any CheckpointReader) throws -> Double {
        var weights: [String: Tensor] = [:]
        for (name, _) in trainer.parameters { weights[name] = try reader.tensor(name) }
        return try trainer.evaluate(weights: weights).loss
    }
}
