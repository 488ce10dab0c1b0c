internal import CairnBase
public import CairnTensor

extension Trainer {
    /// A trainer of the language model that a checkpoint's values tell of, to evaluate weights with; its own are those
    /// of a run at the beginning.
    ///
    /// - Parameters:
    ///   - values: of which `model` is needed, `tokenizer` and `trainer` are used.
    ///   - text: the bytes that the run learnt from.
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for values that are not a run's;
    ///   ``CairnError/Code/invalidArgument`` for a text that does not fit the model.
    public convenience init(evaluating values: [String: Value], text: [UInt8]) throws {
        let model = try TransformerConfiguration(values["model"])
        let tokenizer = try values["tokenizer"].map { value throws(CairnError) in try Tokenizer(value) }
        var options = TrainingOptions()
        if let trainer = values["trainer"] {
            options.precision = try ValueFields("trainer", trainer).choice("precision")
        }
        try self.init(
            transformer: model, text: TextDataset(text: text, tokenizer: tokenizer, context: model.context),
            optimizer: .sgd(), schedule: LearningRateSchedule(peak: 0), options: options)
    }
}
