import CairnTensor
import CairnTrain
import Testing

/// A small run to interrupt and resume: which model, which optimizer, which schedule.
struct TrainingCase: Sendable, CustomTestStringConvertible {
    enum Model: String, Sendable, CaseIterable { case transformer, tied, experts, perceptron }

    var model: Model
    var optimizer = OptimizerConfiguration.adamW()
    var schedule = LearningRateSchedule(peak: 0.01)
    var precision = WeightPrecision.float32
    var average: WeightAverage?

    var testDescription: String { "\(model) \(optimizer.kind) \(schedule.shape) \(precision)" }

    static let text = Array(
        String(repeating: "In the beginning God created the heaven and the earth. And the earth was without form. ", count: 20)
            .utf8)
    static let optimizers: [OptimizerConfiguration] = [
        .sgd(), .sgd(momentum: 0.9, nesterov: true, weightDecay: 0.01), .adamW(), .muon(),
    ]
    static let schedules: [LearningRateSchedule] = [
        LearningRateSchedule(peak: 0.01, warmupSteps: 3),
        LearningRateSchedule(peak: 0.01, warmupSteps: 3, shape: .cosine(steps: 25)),
        LearningRateSchedule(
            peak: 0.01, warmupSteps: 3, shape: .warmupStableDecay(stableUntil: 10, decaySteps: 12, decay: .linear)),
        LearningRateSchedule(
            peak: 0.01, warmupSteps: 3, shape: .warmupStableDecay(stableUntil: 10, decaySteps: 12, decay: .inverse)),
    ]

    static let all: [TrainingCase] = {
        var cases: [TrainingCase] = []
        for model in Model.allCases {
            for precision in WeightPrecision.allCases {
                cases += optimizers.map { TrainingCase(model: model, optimizer: $0, precision: precision) }
            }
            cases += schedules.map { TrainingCase(model: model, schedule: $0) }
            cases += WeightPrecision.allCases.map {
                TrainingCase(
                    model: model, precision: $0, average: WeightAverage(decay: 0.9, warmsUp: $0 == .float32))
            }
        }
        return cases
    }()

    func makeTrainer(seed: UInt64 = 1) throws -> Trainer {
        var options = TrainingOptions()
        options.seed = seed
        options.precision = precision
        options.average = average
        switch model {
        case .perceptron:
            options.batchSize = 24
            return try Trainer(
                classifier: PerceptronConfiguration(hidden: [16, 12, 8]),
                digits: DigitsDataset(csv: Fixture.bytes("digits.csv")), optimizer: optimizer, schedule: schedule,
                options: options)
        case .transformer, .tied, .experts:
            // 98 windows: thirteen batches of eight are more than an epoch.
            options.batchSize = 8
            let text = try TextDataset(text: Self.text, context: 16)
            var configuration = TransformerConfiguration(
                vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: 2, heads: 2, width: 16)
            configuration.tiedEmbeddings = model == .tied
            configuration.biases = model == .tied
            if model == .experts { configuration.experts = ExpertConfiguration(count: 3, width: 24) }
            return try Trainer(
                transformer: configuration, text: text, optimizer: optimizer, schedule: schedule, options: options)
        }
    }
}

extension TrainerState {
    var tensorsByName: [String: Tensor] { Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) }) }
}
