import Cairn
import CairnTrain

/// A dense model upcycled to experts (Komatsuzaki et al. 2023), beside the dense one trained on.
struct UpcycleExperiment: Experiment {
    static let name = "upcycle"
    static let summary = "Whether an upcycled model starts where its parent was, and overtakes it at equal steps."

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let (before, after) = (setting.step(0.7), setting.step(0.3))
        let spacing = max(1, after / 8)
        let kinds: [(name: String, upcycling: Upcycling?)] =
            [("dense, trained on", nil)]
            + Upcycling.OptimizerState.allCases.map {
                ("4 experts, \($0)", Upcycling(experts: 4, every: 1, optimizer: $0))
            }
            + [("8 half experts, expand", Upcycling(experts: 8, chosen: 4, every: 1, granularity: 2))]
        var starts: [[Double]] = kinds.map { _ in [] }
        var ends: [[Double]] = kinds.map { _ in [] }
        var bumps: [[Double]] = kinds.map { _ in [] }
        var curves: [[[(step: Int, loss: Double)]]] = kinds.map { _ in [] }
        for seed in setting.seeds {
            let dense = try setting.trainer(seed: seed)
            try dense.train(steps: before)
            let store = try setting.store("\(name)-\(seed)")
            try store.save(dense.trainingState, step: before)
            var expected: [Double] = []
            for (index, kind) in kinds.enumerated() {
                let trainer: Trainer
                if let upcycling = kind.upcycling {
                    var seeded = upcycling
                    seeded.seed = seed
                    let upcycled = try UpcycledCheckpoint(store.open(step: before), seeded)
                    trainer = try setting.trainer(seed: seed, experts: upcycled.model.experts)
                    try trainer.restore(TrainingState(reading: upcycled.reader))
                } else {
                    trainer = dense
                }
                var points = [(step: before, loss: setting.loss(trainer))]
                while trainer.stepCount < before + after {
                    try trainer.train(steps: min(spacing, before + after - trainer.stepCount))
                    points.append((trainer.stepCount, setting.loss(trainer)))
                }
                let losses = Array(trainer.lossHistory.suffix(after))
                if kind.upcycling == nil { expected = losses }
                starts[index].append(points[0].loss)
                ends[index].append(points[points.count - 1].loss)
                bumps[index].append(zip(losses, expected).prefix(20).map { $0 - $1 }.max() ?? 0)
                curves[index].append(points)
            }
        }
        var result = ExperimentResult(
            columns: ["model", "at the start", "at the end", "largest excess in training, 20 steps"])
        for (index, kind) in kinds.enumerated() {
            result.rows.append([
                kind.name, Sample(starts[index]).text, Sample(ends[index]).text, Sample(bumps[index]).text,
            ])
        }
        let colours = ["#999999", "#1f77b4", "#2ca02c", "#d62728", "#9467bd"]
        result.panels = [
            ChartPanel(
                label: "validation loss (nats)",
                curves: kinds.indices.map { index in
                    LossCurve(
                        name: kinds[index].name, points: meanCurve(curves[index]), colour: colours[index], mark: "o",
                        width: index == 0 ? 4 : 1.5)
                }, hasLegend: true)
        ]
        let difference =
            zip(starts.dropFirst(), repeatElement(starts[0], count: kinds.count)).flatMap { pair in
                zip(pair.0, pair.1).map { abs($0 - $1) }
            }.max() ?? .nan
        result.claim(
            "an upcycled model's loss at the start is its parent's, to 1e-5", difference < 1e-5,
            "off by at most \(scientific(difference))")
        let gain = Sample(ends[0]) - Sample(ends[kinds.firstIndex { $0.name.hasSuffix("expand") } ?? 1])
        result.claim(
            "after equal steps it is ahead of the dense model, with every seed", gain.values.allSatisfy { $0 > 0 },
            "by \(gain.text)")
        func bump(_ suffix: String) -> Double {
            Sample(bumps[kinds.firstIndex { $0.name.hasSuffix(suffix) } ?? 1]).mean
        }
        result.claim(
            "copying the optimizer's state spares a bump of the loss", bump("expand") < bump("drop"),
            "\(decimal(bump("expand"))) with it, \(decimal(bump("carry"))) without that of the experts, "
                + "\(decimal(bump("drop"))) without any")
        return result
    }
}
