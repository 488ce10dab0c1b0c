import Cairn
import CairnTrain

/// Decays that branch off a run at a constant rate, and a run that goes on from a decayed checkpoint: WSD (Hu et al.
/// 2024) and WSD-S (Wen et al. 2024).
struct DecayExperiment: Experiment {
    static let name = "wsd-s"
    static let summary = "What a decay gains, and whether going on from decayed checkpoints is as good as going back."

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let branch = setting.step(0.6)
        let lengths = [0.05, 0.1, 0.2].map(setting.step)
        let decay = setting.step(0.1)
        var trunk: [Int: [Double]] = [:]
        var decayed: [Int: [Double]] = [:]
        var (wsd, simplified) = ([Double](), [Double]())
        var trunkCurves: [[(step: Int, loss: Double)]] = []
        var (onCurves, backCurves) = ([[(step: Int, loss: Double)]](), [[(step: Int, loss: Double)]]())
        var branchCurves: [Int: [[(step: Int, loss: Double)]]] = [:]
        func stepwise(_ trainer: Trainer, to end: Int) throws -> [(step: Int, loss: Double)] {
            var points = [(step: trainer.stepCount, loss: setting.loss(trainer))]
            while trainer.stepCount < end {
                try trainer.train(steps: min(max(1, setting.steps / 40), end - trainer.stepCount))
                points.append((trainer.stepCount, setting.loss(trainer)))
            }
            return points
        }
        for seed in setting.seeds {
            let store = try setting.store("\(name)-\(seed)")
            let whole = try setting.trainer(seed: seed)
            /// A trainer that goes on from a stored step under another schedule.
            func branchOff(_ step: Int, _ shape: LearningRateSchedule.Shape) throws -> Trainer {
                let trainer = try setting.trainer(seed: seed)
                try trainer.restore(store.load(step: step))
                trainer.schedule.shape = shape
                trainer.schedule.floor = 0
                return trainer
            }
            try whole.train(steps: branch)
            try store.save(whole.trainingState, step: branch)
            var curve = try stepwise(whole, to: setting.steps - decay)
            try store.save(whole.trainingState, step: setting.steps - decay)
            curve += try stepwise(whole, to: setting.steps).dropFirst()
            trunkCurves.append(curve)
            for length in lengths {
                let trainer = try branchOff(
                    branch, .warmupStableDecay(stableUntil: branch, decaySteps: length, decay: .linear))
                let points = try stepwise(trainer, to: branch + length)
                branchCurves[length, default: []].append(points)
                decayed[length, default: []].append(points[points.count - 1].loss)
                let reference = try setting.trainer(seed: seed)
                try reference.restore(store.load(step: branch))
                try reference.train(steps: length)
                trunk[length, default: []].append(setting.loss(reference))
                if length == decay { try store.save(trainer.trainingState, step: branch + length) }
            }
            let last = setting.steps - decay
            let ending = LearningRateSchedule.Shape.warmupStableDecay(
                stableUntil: last, decaySteps: decay, decay: .linear)
            // WSD goes back to the trunk, and has spent the first decay for nothing else.
            let back = try branchOff(last, ending)
            let backPoints = try stepwise(back, to: setting.steps)
            backCurves.append(backPoints)
            wsd.append(backPoints[backPoints.count - 1].loss)
            // WSD-S goes on from what was decayed.
            let on = try branchOff(branch + decay, ending)
            let points = try stepwise(on, to: setting.steps)
            onCurves.append(points)
            simplified.append(points[points.count - 1].loss)
        }
        var result = ExperimentResult(columns: ["decay from step \(branch)", "the run at that step", "decayed", "gain"])
        for length in lengths {
            let (one, other) = (Sample(trunk[length] ?? []), Sample(decayed[length] ?? []))
            result.rows.append(["\(length) steps", one.text, other.text, (one - other).text])
        }
        result.rows.append(["at the end: WSD", "", Sample(wsd).text, ""])
        result.rows.append(["at the end: WSD-S", "", Sample(simplified).text, (Sample(wsd) - Sample(simplified)).text])
        var curves = [
            LossCurve(name: "constant rate", points: meanCurve(trunkCurves), colour: "#999999", mark: "·", width: 4)
        ]
        for (length, colour) in zip(lengths, ["#2ca02c", "#1f77b4", "#9467bd"]) {
            curves.append(
                LossCurve(
                    name: "decay in \(length) steps", points: meanCurve(branchCurves[length] ?? []), colour: colour,
                    mark: "o", width: 1.5))
        }
        curves.append(
            LossCurve(
                name: "WSD: a decay of the run", points: meanCurve(backCurves), colour: "#ff7f0e", mark: "o",
                width: 1.5))
        curves.append(
            LossCurve(
                name: "WSD-S: on from a decayed one", points: meanCurve(onCurves), colour: "#d62728", mark: "x",
                width: 1.5))
        result.panels = [ChartPanel(label: "validation loss (nats)", curves: curves, hasLegend: true)]
        let gains = lengths.map { Sample(trunk[$0] ?? []) - Sample(decayed[$0] ?? []) }
        result.claim(
            "a decay lowers the loss below that of the run at the same step, with every seed",
            gains.flatMap(\.values).allSatisfy { $0 > 0 }, gains.map { decimal($0.mean) }.joined(separator: ", "))
        result.claim(
            "a longer decay gains more", zip(gains, gains.dropFirst()).allSatisfy { $0.mean < $1.mean },
            lengths.map { "\($0)" }.joined(separator: ", ") + " steps")
        let difference = Sample(simplified) - Sample(wsd)
        let total = setting.steps + decay
        result.claim(
            "WSD-S ends within 0.02 of where WSD does, with fewer steps in all", abs(difference.mean) < 0.02,
            "difference \(difference.text), \(setting.steps) steps against \(total)")
        return result
    }
}
