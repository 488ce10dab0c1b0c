import Cairn
import CairnMerge
import CairnTrain

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
