import Cairn
import CairnCheckpoint
import CairnMerge
import CairnTrain

/// Averages of the latest stored checkpoints of a run (LAWA, Kaddour 2022).
struct LatestWeightsExperiment: Experiment {
    static let name = "lawa"
    static let summary = "Whether the mean of the latest checkpoints is ahead of the last one."

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let spacing = setting.step(0.05)
        let counts = [3, 5, 10]
        var raw: [[(step: Int, loss: Double)]] = []
        var means: [Int: [[(step: Int, loss: Double)]]] = [:]
        for seed in setting.seeds {
            let trainer = try setting.trainer(seed: seed)
            let store = try setting.store("\(name)-\(seed)")
            var losses: [(step: Int, loss: Double)] = []
            var averaged = counts.map { _ in [(step: Int, loss: Double)]() }
            while trainer.stepCount < setting.steps {
                try trainer.step()
                let step = trainer.stepCount
                guard step % spacing == 0 else { continue }
                losses.append((step, setting.loss(trainer)))
                try store.save(trainer.trainingState, step: step)
                for (index, count) in counts.enumerated() where losses.count >= count {
                    let mean = try mean(of: count, in: store, names: trainer.parameters.map(\.name))
                    averaged[index].append((step, try setting.loss(trainer, mean)))
                }
            }
            raw.append(losses)
            for (index, count) in counts.enumerated() { means[count, default: []].append(averaged[index]) }
        }
        var result = ExperimentResult(columns: ["step", "last"] + counts.map { "mean of \($0)" })
        func sample(_ curves: [[(step: Int, loss: Double)]], _ step: Int) -> Sample? {
            let values = curves.compactMap { curve in curve.first { $0.step == step }?.loss }
            return values.isEmpty ? nil : Sample(values)
        }
        for place in [0.25, 0.5, 0.75, 1] {
            let step = setting.step(place) / spacing * spacing
            result.rows.append(
                ["\(step)", sample(raw, step)?.text ?? ""] + counts.map { sample(means[$0] ?? [], step)?.text ?? "" })
        }
        let last = LossCurve(
            name: "last checkpoint", points: meanCurve(raw), colour: "#999999", mark: "·", width: 4)
        let curves =
            [last]
            + zip(counts, ["#2ca02c", "#1f77b4", "#d62728"]).map { count, colour in
                LossCurve(
                    name: "mean of \(count), \(spacing) steps apart", points: meanCurve(means[count] ?? []),
                    colour: colour, mark: "o", width: 1.5)
            }
        result.panels = [ChartPanel(label: "validation loss (nats)", curves: curves, hasLegend: true)]
        let late = meanCurve(means[3] ?? []).filter { $0.step >= setting.steps / 2 }
        let losses = Dictionary(meanCurve(raw).map { ($0.step, $0.loss) }, uniquingKeysWith: { $1 })
        let gains = late.map { (losses[$0.step] ?? .nan) - $0.loss }
        result.claim(
            "in the second half the mean of three is ahead of the last checkpoint at every step",
            gains.allSatisfy { $0 > 0 }, "by \(decimal(gains.min() ?? .nan)) to \(decimal(gains.max() ?? .nan))")
        let early = meanCurve(means[10] ?? []).first
        let gap = early.map { $0.loss - (losses[$0.step] ?? .nan) } ?? .nan
        result.claim(
            "early on too many are averaged: the mean of ten is behind", gap > 0,
            "by \(decimal(gap)) at step \(early?.step ?? 0)")
        if let target = late.first, let reached = meanCurve(raw).first(where: { $0.loss <= target.loss })?.step {
            result.claim(
                "averaging saves steps", reached > target.step,
                "the mean of three at step \(target.step) is reached by the run itself at step \(reached)")
        } else if let target = late.first {
            result.claim(
                "averaging saves steps", true,
                "the mean of three at step \(target.step) is not reached by the run itself by step \(setting.steps)")
        }
        return result
    }

    /// The weights' mean over the latest checkpoints of a run.
    private static func mean(of count: Int, in store: CheckpointStore, names: [String]) throws -> [String: Tensor] {
        let average = try MergedCheckpoint(StoredAverage(last: count), of: store, options: StoredWeights.options) { reader in
            try SelectedReader(reader, include: ["model.*"])
        }
        var weights: [String: Tensor] = [:]
        for name in names { weights[name] = try average.tensor(name) }
        return weights
    }
}

/// Moving averages of the weights, kept in the trainer's state.
struct MovingAverageExperiment: Experiment {
    static let name = "ema"
    static let summary = "Whether a moving average is ahead of the weights, by which decay, and survives a resume."

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let decays = [0.9, 0.97, 0.99, 0.997, 0.999]
        let places = [0.25, 0.5, 1].map(setting.step)
        let more = min(20, places[1] - places[0])
        var raw: [Int: [Double]] = [:]
        var averaged: [Double: [Int: [Double]]] = [:]
        var isIdentical = true
        for seed in setting.seeds {
            for decay in decays {
                let average = WeightAverage(decay: decay)
                let trainer = try setting.trainer(seed: seed, average: average)
                for place in places {
                    try trainer.train(steps: place - trainer.stepCount)
                    if decay == decays[0] { raw[place, default: []].append(setting.loss(trainer)) }
                    guard let weights = try trainer.averagedParameters() else { continue }
                    averaged[decay, default: [:]][place, default: []].append(try setting.loss(trainer, weights))
                    guard decay == 0.99, place == places[0] else { continue }
                    let store = try setting.store("\(name)-\(seed)")
                    try store.save(trainer.trainingState, step: place)
                    let resumed = try setting.trainer(seed: seed, average: average)
                    try resumed.restore(store.load(step: place))
                    try resumed.train(steps: more)
                    try trainer.train(steps: more)
                    if resumed.trainingState != trainer.trainingState { isIdentical = false }
                }
            }
        }
        var result = ExperimentResult(columns: ["decay"] + places.map { "step \($0)" })
        result.rows.append(["the weights"] + places.map { Sample(raw[$0] ?? []).text })
        for decay in decays {
            result.rows.append(["\(decay)"] + places.map { Sample(averaged[decay]?[$0] ?? []).text })
        }
        let colours = ["#1f77b4", "#17becf", "#2ca02c", "#ff7f0e", "#d62728"]
        let curves =
            [
                LossCurve(
                    name: "the weights", points: places.map { ($0, Sample(raw[$0] ?? []).mean) }, colour: "#999999",
                    mark: "·", width: 4)
            ]
            + zip(decays, colours).map { decay, colour in
                LossCurve(
                    name: "decay \(decay)", points: places.map { ($0, Sample(averaged[decay]?[$0] ?? []).mean) },
                    colour: colour, mark: "o", width: 1.5)
            }
        result.panels = [ChartPanel(label: "validation loss (nats)", curves: curves, hasLegend: true)]
        let end = places[places.count - 1]
        let best = decays.min { Sample(averaged[$0]?[end] ?? []).mean < Sample(averaged[$1]?[end] ?? []).mean } ?? 0
        let gain = Sample(raw[end] ?? []) - Sample(averaged[best]?[end] ?? [])
        result.claim(
            "the best average is ahead of the weights at a constant rate, with every seed",
            gain.values.allSatisfy { $0 > 0 }, "decay \(best): by \(gain.text)")
        result.claim(
            "an average that was saved goes on as if nothing had happened", isIdentical,
            isIdentical ? "\(more) steps after a resume every tensor has the same bits" : "some bits differ")
        return result
    }
}
