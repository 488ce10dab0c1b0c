import Cairn
import CairnCheckpoint
import CairnMerge
import CairnTrain

/// What all experiments share: data, sizes, seeds, and a place for checkpoints.
struct ExperimentSetting {
    /// `nil` where none is given, as for those that follow.
    let givenText: TextDataset?
    /// The bytes of that text.
    let givenBytes: [UInt8]?
    /// Those of another text, for experiments that need two.
    let givenOtherBytes: [UInt8]?
    let givenDigits: DigitsDataset?
    let folder: String
    let seeds: [UInt64]
    /// The steps of a run, which an experiment divides as it needs.
    let steps: Int
    /// How many windows of the validation text are evaluated.
    let validationCount: Int
    /// How many candidates a search evaluates.
    let evaluations: Int
    /// The widths of the hidden layers that classifiers of digits are tried with.
    let widths: [Int]

    var text: TextDataset {
        get throws(CairnError) { try given(givenText, "--text", "Fixtures/data/kjv.txt") }
    }

    var bytes: [UInt8] {
        get throws(CairnError) { try given(givenBytes, "--text", "Fixtures/data/kjv.txt") }
    }

    var otherBytes: [UInt8] {
        get throws(CairnError) { try given(givenOtherBytes, "--other-text", "Fixtures/data/opticks.txt") }
    }

    var digits: DigitsDataset {
        get throws(CairnError) { try given(givenDigits, "--digits", "Fixtures/data/digits.csv") }
    }

    private func given<Data>(_ data: Data?, _ option: String, _ example: String) throws(CairnError) -> Data {
        guard let data else {
            throw CairnError(
                .invalidArgument, "this experiment needs \(option)",
                .init(advice: "say \(option) \(example), for example"))
        }
        return data
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

/// A way to train a trunk on.
struct FineTuning {
    /// What tables call it.
    let name: String
    /// How many windows of eight are the first text's.
    let eighths: Int
    let rate: Double
    var weightDecay = 0.1
    /// Whether the rate falls to a tenth along a cosine.
    var decays = true

    /// Trains a run on mixed texts and stores it.
    static func trunk(
        steps: Int, _ setting: ExperimentSetting, _ texts: TwoTexts, seed: UInt64, in store: CheckpointStore
    ) throws -> MergeInput {
        let trainer = try texts.trainer(setting, eighths: 4, seed: seed)
        try trainer.train(steps: steps)
        try store.save(trainer.trainingState, step: trainer.stepCount)
        return try StoredWeights.input(store, step: trainer.stepCount)
    }

    /// Trains a trunk's weights on, with an optimizer and an order of examples of its own, and stores the result.
    func run(
        from trunk: MergeInput, steps: Int, _ setting: ExperimentSetting, _ texts: TwoTexts, seed: UInt64,
        in store: CheckpointStore
    ) throws -> MergeInput {
        let schedule = LearningRateSchedule(
            peak: rate, warmupSteps: max(1, steps / 20), floor: 0.1, shape: decays ? .cosine(steps: steps) : .constant)
        let trainer = try texts.trainer(
            setting, eighths: eighths, seed: seed, weightDecay: weightDecay, schedule: schedule)
        var weights: [String: Tensor] = [:]
        for (name, _) in trainer.parameters { weights[name] = try trunk.reader.tensor(name) }
        try trainer.replaceParameters(weights)
        try trainer.train(steps: steps)
        try store.save(trainer.trainingState, step: steps)
        return try StoredWeights.input(store, step: steps)
    }
}

/// The weights of stored checkpoints, as inputs of merges: views of mapped files.
enum StoredWeights {
    static func input(_ store: CheckpointStore, step: Int) throws -> MergeInput {
        let reader = try store.open(step: step)
        return MergeInput(
            try SelectedReader(reader, include: ["model.*"]),
            parent: Lineage.Parent(step: step, saveID: reader.manifest.saveID, source: store.name))
    }

    /// How merges that are evaluated once and thrown away are computed.
    static var options: MergeOptions {
        var options = MergeOptions()
        options.mapped = true
        return options
    }

    /// Whether all tensors of the inputs are read where the files are mapped.
    static func areMapped(_ inputs: [MergeInput]) throws -> Bool {
        try inputs.allSatisfy { input in
            try input.reader.tensors.allSatisfy { try input.reader.mapped($0.name) != nil }
        }
    }
}
