import Cairn
import CairnCommunication
import CairnLayout
import CairnReshard
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
            let isLost =
                loss == .first && name.hasPrefix("optimizer.exp_avg.")
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

/// Muon (Jordan et al. 2024) whose matrices' momenta are sharded over ranks, each a whole matrix, and resharded.
struct MuonReshardExperiment: Experiment {
    static let name = "muon-reshard"
    static let summary = "Whether Muon's state can be divided over other ranks, what it takes, and what it gains."

    private static let meshes = ["dp=1", "dp=2", "dp=4", "tp=2", "dp=2,tp=2"]

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let (before, after) = (setting.step(0.3), setting.step(0.1))
        let muon = LearningRateSchedule(peak: 0.02, warmupSteps: setting.step(0.05))
        var deviations: [String: [Double]] = [:]
        var isIdentical = true
        var (muonEnds, adamEnds) = ([Double](), [Double]())
        var curves: [String: [[(step: Int, loss: Double)]]] = [:]
        var bytes: [String: Int] = [:]
        for seed in setting.seeds {
            let store = try setting.store("\(name)-\(seed)")
            let whole = try setting.trainer(seed: seed, optimizer: .muon(), schedule: muon)
            try whole.train(steps: before)
            try store.save(whole.trainingState, step: before)
            try whole.train(steps: after)
            let expected = Array(whole.lossHistory.suffix(after))
            for mesh in meshes {
                let losses = try resume(setting, store, before, after, mesh, seed: seed, muon)
                let again = try resume(setting, store, before, after, mesh, seed: seed, muon)
                if losses.map(\.bitPattern) != again.map(\.bitPattern) { isIdentical = false }
                deviations[mesh, default: []].append(zip(losses, expected).map { abs($0 - $1) }.max() ?? .nan)
            }
            for (kind, optimizer) in [("Muon", OptimizerConfiguration.muon()), ("AdamW", .adamW())] {
                let trainer = try setting.trainer(
                    seed: seed, optimizer: optimizer, schedule: kind == "Muon" ? muon : setting.constant)
                var points: [(step: Int, loss: Double)] = []
                while trainer.stepCount < setting.step(0.5) {
                    try trainer.train(steps: setting.step(0.05))
                    points.append((trainer.stepCount, setting.loss(trainer)))
                }
                curves[kind, default: []].append(points)
                let end = points.last?.loss ?? .nan
                if kind == "Muon" { muonEnds.append(end) } else { adamEnds.append(end) }
                bytes[kind] = trainer.state().tensors.filter { $0.name.hasPrefix("optimizer.") }
                    .reduce(0) { $0 + $1.tensor.byteCount }
            }
        }
        var result = ExperimentResult(columns: ["resumed on", "largest difference of a loss"])
        for mesh in meshes {
            result.rows.append([mesh, scientific(deviations[mesh]?.max() ?? .nan)])
        }
        result.rows.append(["loss at step \(setting.step(0.5)), Muon", Sample(muonEnds).text])
        result.rows.append(["loss at step \(setting.step(0.5)), AdamW", Sample(adamEnds).text])
        result.panels = [
            ChartPanel(
                label: "validation loss (nats)",
                curves: [("Muon", "#d62728"), ("AdamW", "#1f77b4")].map { kind, colour in
                    LossCurve(name: kind, points: meanCurve(curves[kind] ?? []), colour: colour, mark: "o", width: 1.5)
                }, hasLegend: true)
        ]
        let largest = deviations.values.flatMap(\.self).max() ?? .nan
        result.claim(
            "a run goes on under any division as if nothing had happened", largest < LossDeviation.tolerance,
            "losses off by at most \(scientific(largest))")
        result.claim(
            "resumed twice under the same division it has the same bits", isIdentical,
            "\(after) losses, \(meshes.count) meshes")
        let (less, more) = (bytes["Muon"] ?? 0, bytes["AdamW"] ?? 1)
        result.claim(
            "Muon keeps less state than AdamW", less < more,
            "\(less) bytes against \(more), embedding and vectors included")
        let gain = Sample(adamEnds) - Sample(muonEnds)
        result.claim(
            "at equal steps it is ahead of AdamW, with every seed", gain.values.allSatisfy { $0 > 0 },
            "by \(gain.text)")
        return result
    }

    /// The losses of a run on the ranks of a mesh that goes on from a checkpoint.
    private static func resume(
        _ setting: ExperimentSetting, _ store: CheckpointStore, _ step: Int, _ count: Int, _ mesh: String, seed: UInt64,
        _ schedule: LearningRateSchedule
    ) throws -> [Double] {
        let parallel = ParallelConfiguration(mesh: try DeviceMesh(parsing: mesh), zero: true)
        let (text, model, options) = (try setting.text, try setting.model(), setting.options(seed: seed))
        let ranks = try ThreadCommunicator.run(ranks: parallel.mesh.rankCount) { communicator in
            let trainer = try ParallelTrainer(
                transformer: model, text: text, optimizer: .muon(), schedule: schedule, options: options,
                parallel: parallel, communicator: communicator)
            let loaded = try ShardedStore(store, over: communicator).loadLatest(trainer.placedTensors)
            try trainer.restore(loaded.state)
            try trainer.train(steps: count)
            return Array(trainer.lossHistory.suffix(count))
        }
        return ranks[0]
    }
}
