import Cairn
import CairnTrain

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
        let curves = [
            LossCurve(
                name: "the weights", points: places.map { ($0, Sample(raw[$0] ?? []).mean) }, colour: "#999999",
                mark: "·", width: 4)
        ] + zip(decays, colours).map { decay, colour in
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
