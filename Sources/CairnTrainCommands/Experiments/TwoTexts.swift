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
