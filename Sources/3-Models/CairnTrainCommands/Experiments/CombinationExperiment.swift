import Cairn
import CairnMerge
import CairnTrain

/// Searched linear combinations of the latest checkpoints of a run (LCSC, Liu et al. 2024).
struct CombinationExperiment: Experiment {
    static let name = "lcsc"
    static let summary = "Whether searched coefficients of a run's checkpoints are ahead of averages."

    private static let checkpointCount = 15
    private static let decays = (1...19).map { Double($0) / 20 }

    /// What is compared, in the order of the table.
    private enum Row: Int, CaseIterable {
        case last, latest, uniform, exponential, evolution, strategy
    }

    /// How a search went: the best so far on either split.
    private struct Progress {
        var search: [(step: Int, loss: Double)] = []
        var report: [(step: Int, loss: Double)] = []
    }

    /// What one seed found.
    private struct SeedResult {
        /// By row.
        var search: [Double] = []
        var report: [Double] = []
        var negativeCounts: [Int] = []
        var latestCount = 0
        var decay = 0.0
        var curves: [Row: Progress] = [:]
        var candidateCount = 0
        var isResumeIdentical = true
        var wroteNothing = true
    }

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let outcomes = try setting.seeds.map { try run(setting, seed: $0) }
        var result = ExperimentResult(
            columns: ["coefficients", "search split", "report split", "ahead of the last one there", "negative ones"])
        let latest = Set(outcomes.map(\.latestCount)).sorted().map(String.init).joined(separator: ", ")
        let decays = Set(outcomes.map(\.decay)).sorted().map { "\($0)" }.joined(separator: ", ")
        let names: [Row: String] = [
            .last: "the last checkpoint", .latest: "mean of the latest (\(latest))",
            .uniform: "mean of all \(checkpointCount)", .exponential: "moving average (\(decays))",
            .evolution: "evolution", .strategy: "CMA-ES",
        ]
        func sample(_ row: Row, _ values: KeyPath<SeedResult, [Double]>) -> Sample {
            Sample(outcomes.map { $0[keyPath: values][row.rawValue] })
        }
        for row in Row.allCases {
            let negative = Sample(outcomes.map { Double($0.negativeCounts[row.rawValue]) })
            result.rows.append([
                names[row] ?? "", sample(row, \.search).text, sample(row, \.report).text,
                row == .last ? "" : (sample(.last, \.report) - sample(row, \.report)).text,
                negative.mean == 0 ? "" : "\(Int(negative.mean.rounded()))",
            ])
        }
        result.axis = "evaluations"
        result.panels = [
            panel("best loss on the search split (nats)", outcomes, \.search, sample(.exponential, \.search).mean),
            panel("its loss on the report split (nats)", outcomes, \.report, sample(.exponential, \.report).mean),
        ]
        result.panels[0].hasLegend = true
        for (row, name) in [(Row.evolution, "the evolutionary search"), (.strategy, "CMA-ES")] {
            let searched = sample(.exponential, \.search) - sample(row, \.search)
            let reported = sample(.exponential, \.report) - sample(row, \.report)
            result.claim(
                "\(name) is at least as good as the best moving average on the search split, with every seed",
                searched.values.allSatisfy { $0 >= 0 }, "by \(searched.text)")
            result.claim(
                "\(name) is ahead of it on the report split too, with every seed",
                reported.values.allSatisfy { $0 > 0 }, "by \(reported.text)")
            result.claim(
                "what \(name) gains there is less than on the search split", reported.mean < searched.mean,
                "\(decimal(reported.mean)) against \(decimal(searched.mean))")
        }
        let candidates = outcomes.reduce(0) { $0 + $1.candidateCount }
        result.claim(
            "a search that was stored in the middle, loaded and gone on with ends as the uninterrupted one",
            outcomes.allSatisfy(\.isResumeIdentical), "every candidate, every value and the state have the same bits")
        result.claim(
            "candidates are computed from mapped checkpoints, without a file", outcomes.allSatisfy(\.wroteNothing),
            "\(candidates) candidates, \(setting.seeds.count) seeds")
        return result
    }

    private static func run(_ setting: ExperimentSetting, seed: UInt64) throws -> SeedResult {
        let limit = setting.validationCount
        let searched = try HeldOutLoss(setting.model(), setting.text, .search, limit: limit)
        let reported = try HeldOutLoss(setting.model(), setting.text, .report, limit: 4 * limit)
        let inputs = try trajectory(setting, seed: seed)
        let storage = LocalStorage(root: setting.folder)
        let files = try storage.list("\(name)-\(seed)/").map(\.key)
        var outcome = SeedResult()
        let count = inputs.count
        // Every coefficient is a coordinate: searches keep the sum at 1, or the space does.
        let free = try CoefficientSpace(inputs, constraint: .none, options: StoredWeights.options)
        func best(_ choices: [[Double]]) throws -> (index: Int, loss: Double) {
            let losses = try choices.map { try searched(free.merged($0)) }
            let index = losses.indices.min { losses[$0] < losses[$1] } ?? 0
            outcome.candidateCount += choices.count
            return (index, losses[index])
        }
        func note(_ coefficients: [Double], _ loss: Double) throws {
            outcome.search.append(loss)
            outcome.report.append(try reported(free.merged(coefficients)))
            outcome.negativeCounts.append(coefficients.count { $0 < 0 })
        }
        let means = (1...count).map { latest in
            (0..<count).map { $0 < count - latest ? 0 : 1 / Double(latest) }
        }
        let averages = try decays.map {
            try StoredAverage(weighting: .exponential(decay: $0)).weights(count: count)
        }
        let latest = try best(means), average = try best(averages)
        outcome.latestCount = latest.index + 1
        outcome.decay = decays[average.index]
        try note(means[0], searched(free.merged(means[0])))
        try note(means[latest.index], latest.loss)
        try note(means[count - 1], searched(free.merged(means[count - 1])))
        try note(averages[average.index], average.loss)

        let split = SearchSplit { ["loss": try searched($0)] }
        let bound = try CoefficientSpace(inputs, options: StoredWeights.options)
        let evolution = try InterruptedSearch(
            MergeSearch(free, strategy: CheckpointEvolution(checkpointCount: count, seed: seed)),
            evaluations: setting.evaluations, on: split, in: setting.store("\(name)-\(seed)-evolution"))
        let strategy = try InterruptedSearch(
            MergeSearch(bound, strategy: EvolutionStrategy(start: bound.uniformPoint, step: 0.05, seed: seed)),
            evaluations: setting.evaluations, on: split, in: setting.store("\(name)-\(seed)-cma-es"))
        try finish(.evolution, evolution, reported, &outcome)
        try finish(.strategy, strategy, reported, &outcome)
        outcome.wroteNothing =
            try StoredWeights.areMapped(inputs)
            && storage.list("\(name)-\(seed)/").map(\.key) == files
        return outcome
    }

    /// The last checkpoints of a run at a constant rate, oldest first.
    private static func trajectory(_ setting: ExperimentSetting, seed: UInt64) throws -> [MergeInput] {
        let spacing = max(1, setting.steps / 40)
        let store = try setting.store("\(name)-\(seed)")
        let trainer = try setting.trainer(seed: seed)
        let first = setting.steps - (checkpointCount - 1) * spacing
        var inputs: [MergeInput] = []
        try trainer.train(steps: first)
        while true {
            let step = trainer.stepCount
            try store.save(trainer.trainingState, step: step)
            inputs.append(try StoredWeights.input(store, step: step))
            guard inputs.count < checkpointCount else { return inputs }
            try trainer.train(steps: spacing)
        }
    }

    /// Notes what a search has found, and how it came to that.
    private static func finish<Strategy: SearchStrategy>(
        _ row: Row, _ interrupted: InterruptedSearch<Strategy>, _ reported: HeldOutLoss, _ outcome: inout SeedResult
    ) throws {
        let search = interrupted.search
        var progress = Progress()
        var known: [[Double]: Double] = [:]
        for count in stride(from: 20, through: search.trials.count, by: 20) {
            guard let (trial, loss) = interrupted.best(of: count) else { continue }
            let report = try known[trial.point] ?? reported(search.space.merged(trial.point))
            known[trial.point] = report
            progress.search.append((count, loss))
            progress.report.append((count, report))
        }
        outcome.curves[row] = progress
        outcome.candidateCount += search.trials.count
        if !interrupted.isIdentical { outcome.isResumeIdentical = false }
        guard let best = search.strategy.best else { return }
        outcome.search.append(best.value)
        outcome.report.append(try reported(search.space.merged(best.point)))
        outcome.negativeCounts.append(try search.space.coefficients(of: best.point)[0].count { $0 < 0 })
    }

    private static func panel(
        _ label: String, _ outcomes: [SeedResult],
        _ curve: KeyPath<Progress, [(step: Int, loss: Double)]>, _ average: Double
    ) -> ChartPanel {
        let steps = outcomes.flatMap { $0.curves.values }.flatMap { $0.search.map(\.step) }
        let line = LossCurve(
            name: "the best moving average", points: [(steps.min() ?? 0, average), (steps.max() ?? 0, average)],
            colour: "#999999", mark: "·", width: 4)
        let searches = [(Row.evolution, "evolution", "#2ca02c"), (.strategy, "CMA-ES", "#d62728")]
        let curves = searches.map { row, name, colour in
            LossCurve(
                name: name, points: meanCurve(outcomes.compactMap { $0.curves[row]?[keyPath: curve] }),
                colour: colour, mark: "o", width: 1.5)
        }
        return ChartPanel(label: label, curves: [line] + curves)
    }
}

/// A search, and the same one interrupted in the middle: stored, loaded, and gone on with.
struct InterruptedSearch<Strategy: SearchStrategy> {
    /// The one that was not interrupted.
    let search: MergeSearch<Strategy>
    /// Whether the other has come to the same in every bit: candidates, values, and what it would do next.
    let isIdentical: Bool

    init(
        _ search: MergeSearch<Strategy>, evaluations: Int, on split: SearchSplit, in store: CheckpointStore
    ) throws {
        func advance(_ search: inout MergeSearch<Strategy>, to count: Int) throws {
            while search.trials.count < count { try search.advance(on: split) }
        }
        var whole = search
        try advance(&whole, to: evaluations / 2)
        var state = TrainingState()
        state.set(whole.value, for: "search")
        let step = whole.trials.count
        try store.save(state, step: step)
        try advance(&whole, to: evaluations)
        var resumed = try MergeSearch<Strategy>(store.load(step: step).value("search"), over: search.space)
        try advance(&resumed, to: evaluations)
        self.search = whole
        isIdentical = resumed.value == whole.value
    }

    /// The best trial of the first so many, by the weighted sum of its objectives.
    func best(of count: Int) -> (trial: MergeSearch<Strategy>.Trial, value: Double)? {
        search.trials.prefix(count).map { trial in
            (trial, zip(search.weights, trial.values).reduce(0) { $0 + $1.0 * $1.1 })
        }.min { $0.1 < $1.1 }
    }
}
