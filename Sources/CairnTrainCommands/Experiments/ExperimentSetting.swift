import Cairn
import CairnTrain

/// What all experiments share: data, sizes, seeds, and a place for checkpoints.
struct ExperimentSetting {
    /// `nil` where none is given, as for ``givenDigits``.
    let givenText: TextDataset?
    let givenDigits: DigitsDataset?
    let folder: String
    let seeds: [UInt64]
    /// The steps of a run, which an experiment divides as it needs.
    let steps: Int
    /// How many windows of the validation text are evaluated.
    let validationCount: Int
    /// The widths of the hidden layers that classifiers of digits are tried with.
    let widths: [Int]

    var text: TextDataset {
        get throws(CairnError) {
            guard let givenText else { throw Self.lacking("--text", "Fixtures/data/kjv.txt") }
            return givenText
        }
    }

    var digits: DigitsDataset {
        get throws(CairnError) {
            guard let givenDigits else { throw Self.lacking("--digits", "Fixtures/data/digits.csv") }
            return givenDigits
        }
    }

    private static func lacking(_ option: String, _ example: String) -> CairnError {
        CairnError(
            .invalidArgument, "this experiment needs \(option)", .init(advice: "say \(option) \(example), for example"))
    }

    /// The step at a fraction of a run.
    func step(_ fraction: Double) -> Int { max(1, Int((Double(steps) * fraction).rounded())) }

    /// A small transformer's trainer; the learning rate stays at its peak after a warm-up.
    func trainer(
        seed: UInt64, optimizer: OptimizerConfiguration = .adamW(), schedule: LearningRateSchedule? = nil,
        average: WeightAverage? = nil, experts: ExpertConfiguration? = nil
    ) throws -> Trainer {
        try Trainer(
            transformer: model(experts), text: text, optimizer: optimizer, schedule: schedule ?? constant,
            options: options(seed: seed, average: average))
    }

    func model(_ experts: ExpertConfiguration? = nil) throws(CairnError) -> TransformerConfiguration {
        let text = try text
        var model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: text.context, layers: 2, heads: 2, width: 64)
        model.experts = experts
        return model
    }

    func options(seed: UInt64, average: WeightAverage? = nil) -> TrainingOptions {
        var options = TrainingOptions()
        options.batchSize = 16
        options.seed = seed
        options.average = average
        return options
    }

    var constant: LearningRateSchedule { LearningRateSchedule(peak: 3e-3, warmupSteps: step(0.05)) }

    /// The validation loss.
    func loss(_ trainer: Trainer) -> Double { trainer.evaluate(limit: validationCount).loss }

    /// The validation loss with other weights.
    func loss(_ trainer: Trainer, _ weights: [String: Tensor]) throws -> Double {
        try trainer.evaluate(weights: weights, limit: validationCount).loss
    }

    /// An empty store in the experiment's folder.
    func store(_ name: String) throws -> CheckpointStore {
        let storage = LocalStorage(root: folder)
        let old = try storage.list(name + "/").map(\.key)
        if !old.isEmpty { try storage.delete(old) }
        return CheckpointStore(path: folder + "/" + name)
    }
}

/// The mean of each curve's points over seeds.
func meanCurve(_ curves: [[(step: Int, loss: Double)]]) -> [(step: Int, loss: Double)] {
    guard let first = curves.first else { return [] }
    return first.indices.map { place in
        (first[place].step, Sample(curves.map { $0[place].loss }).mean)
    }
}
