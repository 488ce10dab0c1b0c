import Cairn
import CairnTrain

/// Two texts over one alphabet, for models that learn both.
struct TwoTexts {
    let first: TextDataset
    let second: TextDataset
    let model: TransformerConfiguration

    /// - Throws: ``CairnError/Code/invalidArgument`` without another text.
    init(_ setting: ExperimentSetting) throws {
        let (bytes, other) = (try setting.bytes, try setting.otherBytes)
        let tokenizer = Tokenizer.characters(of: bytes + other)
        let context = try setting.text.context
        first = try TextDataset(text: bytes, tokenizer: tokenizer, context: context)
        // It is short, and two halves of what is held out are needed.
        second = try TextDataset(text: other, tokenizer: tokenizer, context: context, validationFraction: 0.3)
        var model = try setting.model()
        model.vocabularySize = tokenizer.vocabularySize
        self.model = model
    }

    /// A trainer on windows of which so many of eight are the first text's.
    func trainer(
        _ setting: ExperimentSetting, eighths: Int, seed: UInt64, weightDecay: Double = 0.1,
        schedule: LearningRateSchedule? = nil
    ) throws -> Trainer {
        try Trainer(
            Transformer(model), TextMixture(texts: self, eighths: eighths), tokenizer: first.tokenizer,
            optimizer: .adamW(weightDecay: weightDecay), schedule: schedule ?? setting.constant,
            options: setting.options(seed: seed))
    }
}

/// Windows of two texts: so many of every eight are the first one's.
struct TextMixture: ExampleSource {
    let texts: TwoTexts
    let eighths: Int

    func count(_ split: Split) -> Int { texts.first.count(split) + texts.second.count(split) }

    func append(_ index: Int, of split: Split, to batch: inout Batch) {
        let (block, place) = (index / 8, index % 8)
        let isFirst = place < eighths
        let text = isFirst ? texts.first : texts.second
        let own = isFirst ? block * eighths + place : block * (8 - eighths) + place - eighths
        text.append(own % text.count(split), of: split, to: &batch)
    }

    var identity: Value {
        .dictionary([
            "kind": .string("mixture"), "first": texts.first.identity, "second": texts.second.identity,
            "eighths": .integer(Int64(eighths)),
        ])
    }
}

/// Half of a text's validation windows, every other one: what a search sees, and what its result is reported on.
struct HeldOutPart: ExampleSource {
    enum Half: Int { case search, report }

    let text: TextDataset
    let part: Half
    /// At most so many windows, from all over the half.
    let limit: Int

    private var available: Int { (text.count(.validation) + 1 - part.rawValue) / 2 }

    func count(_ split: Split) -> Int { split == .validation ? min(limit, available) : text.count(split) }

    func append(_ index: Int, of split: Split, to batch: inout Batch) {
        guard split == .validation else { return text.append(index, of: split, to: &batch) }
        text.append(index * available / count(split) * 2 + part.rawValue, of: split, to: &batch)
    }

    var identity: Value { text.identity }
}

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
