import Cairn
import CairnCheckpoint
import CairnTrain

/// Losses on the straight lines between checkpoints (Goodfellow et al. 2015, Frankle et al. 2020), of single parts of
/// the network (Adilova et al. 2024), and over the plane through three of them (Garipov et al. 2018).
struct InterpolationExperiment: Experiment {
    static let name = "interpolation"
    static let summary = "Whether a ridge of loss lies between checkpoints of one run, of its branches, of two runs."

    /// A way from one checkpoint to another.
    private struct Way {
        var name: String
        var colour: String
        var isDashed = false
        var paths: [LossPath] = []

        var barrier: Sample { Sample(paths.map(\.barrier)) }
        /// How far the loss rises above that of the first checkpoint.
        var rise: Sample { sample { ($0.losses.max() ?? .nan) - $0.losses[0] } }
        func sample(_ number: (LossPath) -> Double) -> Sample { Sample(paths.map(number)) }
        var row: [String] {
            [
                name, sample { $0.losses[0] }.text, sample { $0.losses[$0.losses.count - 1] }.text,
                sample { $0.losses[$0.losses.count / 2] }.text, rise.text, barrier.text,
            ]
        }
        var curve: LossCurve {
            LossCurve(name: name, points: meanPath(paths), colour: colour, mark: "o", width: 2, isDashed: isDashed)
        }
    }

    /// Where branches leave the run, as fractions of it.
    private static let forks = [0, 0.05, 0.25, 0.5]

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let (half, end) = (setting.step(0.5), setting.steps)
        var start = Way(name: "from the first step to the last", colour: "#999999", isDashed: true)
        var trajectory = Way(name: "one run: from step \(half) to \(end)", colour: "#000000")
        var branches = zip(forks, ["#9467bd", "#1f77b4", "#17becf", "#2ca02c"]).map { fork, colour in
            Way(name: "branches from step \(fork == 0 ? 0 : setting.step(fork))", colour: colour)
        }
        var apart = Way(name: "two independent runs", colour: "#d62728")
        var parts: [(near: Way, far: Way)] = []
        var maps: [HeatMap] = []
        for seed in setting.seeds {
            let runs = try Runs(setting, seed: seed)
            // Hundreds of evaluations: a part of the validation text has to do.
            let space = WeightSpace(
                trainer: try setting.trainer(seed: seed), limit: max(2, setting.validationCount / 4))
            let last = try runs.open(step: end)
            start.paths.append(try space.path(runs.open(step: 0), last))
            trajectory.paths.append(try space.path(runs.open(step: half), last))
            var branched: [CairnReader] = []
            for (index, fork) in forks.enumerated() {
                let branch = try runs.branch(from: fork == 0 ? 0 : setting.step(fork))
                branches[index].paths.append(try space.path(last, branch))
                branched.append(branch)
            }
            let other = try runs.independent()
            apart.paths.append(try space.path(last, other))
            for (index, part) in try TensorGroup.all(of: space.trainer).enumerated() {
                if parts.count <= index {
                    parts.append(
                        (
                            Way(name: "branches, \(part.name) alone", colour: ""),
                            Way(name: "runs, \(part.name) alone", colour: "")
                        ))
                }
                parts[index].near.paths.append(
                    try space.path(last, branched[forks.count - 1], pointCount: 9, moving: part.contains))
                parts[index].far.paths.append(try space.path(last, other, pointCount: 9, moving: part.contains))
            }
            // Of one seed: planes have no mean.
            if maps.isEmpty {
                let highest = apart.paths[0].losses.max() ?? 0
                maps.append(
                    try space.plane(
                        [last, branched[forks.count - 1], runs.open(step: half)],
                        names: ["step \(end)", "branch", "step \(half)"],
                        label: "a run and its branch from step \(half)", size: 25,
                        ceiling: trajectory.paths[0].losses[0] * 1.5))
                maps.append(
                    try space.plane(
                        [last, branched[forks.count - 1], other],
                        names: ["step \(end)", "branch", "another run"], label: "the two and an independent run",
                        size: 25, ceiling: highest * 1.1))
            }
        }
        var result = ExperimentResult(
            columns: ["way", "loss at its start", "at its end", "in the middle", "highest rise", "barrier"])
        let ways = [start, trajectory] + branches + [apart]
        result.rows = (ways + parts.map(\.near) + parts.map(\.far)).map(\.row)
        result.axis = "from the first checkpoint (0) to the second (100)"
        result.panels = [
            ChartPanel(label: "validation loss (nats)", curves: ways.map(\.curve), hasLegend: true),
            ChartPanel(
                label: "without the longest ways", curves: ([trajectory] + branches.dropFirst()).map(\.curve)),
        ]
        result.maps = maps
        evaluateClaims(start, trajectory, branches, apart, parts, &result)
        return result
    }

    private static func evaluateClaims(
        _ start: Way, _ trajectory: Way, _ branches: [Way], _ apart: Way, _ parts: [(near: Way, far: Way)],
        _ result: inout ExperimentResult
    ) {
        let rises = start.paths.map { path in
            zip(path.losses, path.losses.dropFirst()).map { $1 - $0 }.max() ?? 0
        }
        result.claim(
            "on the line from the first weights to the last the loss only falls", rises.allSatisfy { $0 <= 0.001 },
            "by at least \(decimal(-(rises.max() ?? .nan))) from each point to the next")
        result.claim(
            "no barrier lies between two checkpoints of one run, below 0.02 nats",
            trajectory.barrier.values.allSatisfy { $0 < 0.02 }, trajectory.barrier.text)
        result.claim(
            "the later branches leave a run, the lower the barrier between them, until there is none",
            zip(branches.map(\.barrier.mean), branches.map(\.barrier.mean).dropFirst()).allSatisfy {
                $0 > $1 || $0 == 0
            },
            branches.map { decimal($0.barrier.mean) }.joined(separator: ", "))
        if let latest = branches.last {
            result.claim(
                "branches from half of the run are connected, below 0.02 nats",
                latest.barrier.values.allSatisfy { $0 < 0.02 }, latest.barrier.text)
            result.claim(
                "a ridge lies between independent runs, with every seed ten times what lies between branches",
                zip(apart.barrier.values, latest.barrier.values).allSatisfy { $0 > 10 * $1 && $0 > 0.1 },
                apart.barrier.text)
        }
        let (near, far) = (parts.map(\.near.rise.mean), parts.dropLast().map(\.far.rise.mean))
        result.claim(
            "any part of a branch can stand in for the run's own, within 0.05 nats", near.allSatisfy { $0 < 0.05 },
            "up by at most \(decimal(near.max() ?? .nan))")
        result.claim(
            "no part of an independent run can, but for the final norm, each raises the loss by more than 0.1",
            far.allSatisfy { $0 > 0.1 }, far.map(decimal).joined(separator: ", "))
    }

    /// Tensors that go from one checkpoint to another while the rest stays.
    private struct TensorGroup {
        var name: String
        var contains: (String) -> Bool

        /// The embedding, of each layer attention and feed-forward part with the norms before them, and the end.
        static func all(of trainer: Trainer) throws -> [TensorGroup] {
            let names = trainer.parameters.map(\.name)
            var parts = [TensorGroup(name: "embedding") { $0.hasPrefix("model.embedding") }]
            for layer in 0..<2 {
                for (part, name) in [("attention", "attention"), ("mlp", "feed-forward")] {
                    parts.append(
                        TensorGroup(name: "\(name) \(layer + 1)") { $0.hasPrefix("model.layers.\(layer).\(part)") })
                }
            }
            let rest = parts
            return parts.filter { part in names.contains(where: part.contains) }
                + [TensorGroup(name: "final norm") { name in !rest.contains { $0.contains(name) } }]
        }
    }

    /// A run of one seed with its checkpoints, and what branches off it.
    private struct Runs {
        let setting: ExperimentSetting
        let seed: UInt64
        let store: CheckpointStore

        init(_ setting: ExperimentSetting, seed: UInt64) throws {
            self.setting = setting
            self.seed = seed
            store = try setting.store("\(name)-\(seed)")
            let trainer = try setting.trainer(seed: seed)
            let kept = Set(forks.map { $0 == 0 ? 0 : setting.step($0) } + [setting.steps])
            try store.save(trainer.trainingState, step: 0)
            try trainer.train(steps: setting.steps) { report in
                let step = report.step + 1
                if kept.contains(step) { try store.save(trainer.trainingState, step: step) }
            }
        }

        func open(step: Int) throws -> CairnReader { try store.open(step: step) }

        /// The end of a run that is this one up to a step, and then sees the examples in another order.
        func branch(from step: Int) throws -> CairnReader {
            let trainer = try setting.trainer(seed: seed)
            var state = try store.load(step: step)
            let order = DataLoader(exampleCount: trainer.loader.exampleCount, seed: seed + 2000)
            state.set(order.value, for: "loader")
            try trainer.restore(state)
            return try end(trainer, "branch-\(step)")
        }

        /// The end of a run with another seed: other first weights, another order.
        func independent() throws -> CairnReader { try end(setting.trainer(seed: seed + 1000), "other") }

        private func end(_ trainer: Trainer, _ name: String) throws -> CairnReader {
            try trainer.train(steps: setting.steps - trainer.stepCount)
            let store = try setting.store("\(InterpolationExperiment.name)-\(seed)-\(name)")
            try store.save(trainer.trainingState, step: setting.steps)
            return try store.open(step: setting.steps)
        }
    }
}
