import Cairn
import CairnTrain

/// Resuming with parts of the optimizer's state missing ("Experience of training a 1.7B-parameter LLaMa").
struct ResumeExperiment: Experiment {
    static let name = "resume-without-optimizer"
    static let summary = "What a resume costs that loses some or all of the optimizer's state."

    /// What is lost.
    private enum Loss: String, CaseIterable {
        case nothing, optimizer = "the optimizer", first = "first moments", second = "second moments",
            steps = "the count of steps"
    }

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let (before, after) = (setting.step(0.5), setting.step(0.2))
        var excess: [Loss: [[Double]]] = [:]
        var isIdentical = true
        for seed in setting.seeds {
            let whole = try setting.trainer(seed: seed)
            try whole.train(steps: before)
            let store = try setting.store("\(name)-\(seed)")
            try store.save(whole.trainingState, step: before)
            try whole.train(steps: after)
            let expected = whole.lossHistory.suffix(after)
            for loss in Loss.allCases {
                let resumed = try setting.trainer(seed: seed)
                try restore(resumed, store.load(step: before), without: loss)
                try resumed.train(steps: after)
                let losses = resumed.lossHistory.suffix(after)
                excess[loss, default: []].append(zip(losses, expected).map { $0 - $1 })
                if loss == .nothing, resumed.trainingState != whole.trainingState { isIdentical = false }
            }
        }
        var result = ExperimentResult(columns: ["lost", "largest excess", "mean of the last fifth"])
        var largest: [Loss: Sample] = [:]
        var rest: [Loss: Sample] = [:]
        let colours = ["#333333", "#d62728", "#1f77b4", "#9467bd", "#2ca02c"]
        var curves: [LossCurve] = []
        for (loss, colour) in zip(Loss.allCases, colours) {
            let runs = excess[loss] ?? []
            let high = Sample(runs.map { $0.max() ?? 0 })
            let tail = Sample(runs.map { Sample(Array($0.suffix(max(1, after / 5)))).mean })
            (largest[loss], rest[loss]) = (high, tail)
            result.rows.append([loss.rawValue, high.text, tail.text])
            let points = meanCurve(runs.map { run in run.enumerated().map { (before + $0.offset + 1, $0.element) } })
            curves.append(LossCurve(name: loss.rawValue, points: points, colour: colour, mark: "o", width: 1.5))
        }
        result.panels = [
            ChartPanel(
                label: "excess training loss (nats)", scale: .logarithmic(smallest: 1e-4), curves: curves,
                hasLegend: true)
        ]
        result.claim(
            "a whole resume is the uninterrupted run", isIdentical,
            isIdentical ? "every tensor and value has the same bits" : "some bits differ")
        let (bump, settled) = (largest[.optimizer]?.mean ?? 0, rest[.optimizer]?.mean ?? 0)
        result.claim(
            "without the optimizer's state the loss rises, then recovers", bump > 0.02 && settled < bump / 3,
            "\(decimal(bump)) at most, \(decimal(settled)) at the end")
        let second = largest[.second]?.mean ?? 0
        result.claim(
            "half a state is worse than none: second moments lost alone", second > 3 * bump,
            "\(decimal(second)) against \(decimal(bump))")
        return result
    }

    private static func restore(_ trainer: Trainer, _ state: TrainingState, without loss: Loss) throws {
        var state = state
        for (name, tensor) in state.tensors {
            let isLost = loss == .first && name.hasPrefix("optimizer.exp_avg.")
                || loss == .second && name.hasPrefix("optimizer.exp_avg_sq.")
            guard isLost else { continue }
            state.set(try Tensor([Float](repeating: 0, count: tensor.shape.elementCount), tensor.shape), for: name)
        }
        if loss == .steps, case .dictionary(var optimizer) = try state.value("optimizer") {
            optimizer["step"] = .integer(0)
            state.set(.dictionary(optimizer), for: "optimizer")
        }
        try trainer.restore(state, withoutOptimizer: loss == .optimizer)
    }
}
