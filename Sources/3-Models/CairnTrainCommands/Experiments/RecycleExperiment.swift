import Cairn
import CairnMerge
import CairnTrain

/// Searched merges of checkpoints that were trained for different things ("If you can't use them, recycle them",
/// Khalifa et al. 2024).
struct RecycleExperiment: Experiment {
    static let name = "recycle"
    static let summary = "Whether searched merges of branches for two texts are ahead on both."

    private static let branches = [
        FineTuning(name: "first text, 3e-3", eighths: 8, rate: 3e-3),
        FineTuning(name: "first text, 1e-3", eighths: 8, rate: 1e-3),
        FineTuning(name: "7/8 first text, 2e-3", eighths: 7, rate: 2e-3),
        FineTuning(name: "7/8 other text, 2e-3", eighths: 1, rate: 2e-3),
        FineTuning(name: "other text, 1e-3", eighths: 0, rate: 1e-3),
        FineTuning(name: "other text, 3e-3", eighths: 0, rate: 3e-3),
    ]
    private static let objectives = ["first", "second"]
    /// What the first text counts in the searches.
    private static let weights = [0.5, 0.05, 0.25, 0.75, 0.95]

    /// The losses on both texts.
    private struct Losses {
        var first: Double
        var second: Double
        var mean: Double { (first + second) / 2 }

        func dominates(_ other: Losses) -> Bool { first < other.first && second < other.second }
    }

    /// A model of the table.
    private struct LossPair {
        var search: Losses
        var report: Losses
    }

    private struct SeedResult {
        /// The branches, the trunk, the mean, the greedy soup, and the searches, in the order of the table.
        var entries: [LossPair] = []
        var greedyCount = 0
        /// The coefficients of the search in which both texts count the same.
        var coefficients: [Double] = []
        var isResumeIdentical = true
        /// The losses on the report split of what is best on the search split.
        var front: [Losses] = []
        /// For the uniform merge and for each branch: the merge with the least mean of those that are ahead of it on
        /// both texts of the search split, if the searches found any.
        var aheadOfUniform: LossPair?
        var aheadOfBranches: [LossPair?] = []
    }

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let texts = try TwoTexts(setting)
        let outcomes = try setting.seeds.map { try run(setting, texts, seed: $0) }
        let names =
            branches.map(\.name) + ["the trunk", "uniform", "greedy soup"]
            + weights.map { "search, first text counts \($0)" }
        var result = ExperimentResult(
            columns: ["model", "first text", "other text", "mean of both", "mean, search split"])
        func sample(_ index: Int, _ value: (LossPair) -> Double) -> Sample {
            Sample(outcomes.map { value($0.entries[index]) })
        }
        for (index, name) in names.enumerated() {
            result.rows.append([
                name, sample(index) { $0.report.first }.text, sample(index) { $0.report.second }.text,
                sample(index) { $0.report.mean }.text, sample(index) { $0.search.mean }.text,
            ])
        }
        let (trunk, uniform) = (branches.count, branches.count + 1)
        let (greedy, searched) = (branches.count + 2, branches.count + 3)
        /// How much the search is ahead on the report split in the mean of both texts, seed by seed.
        func gain(over other: (SeedResult) -> Double) -> Sample {
            Sample(outcomes.map { other($0) - $0.entries[searched].report.mean })
        }
        let single = gain { outcome in
            // Chosen as a user would, on the search split.
            let best = branches.indices.min { outcome.entries[$0].search.mean < outcome.entries[$1].search.mean } ?? 0
            return outcome.entries[best].report.mean
        }
        let gains = [
            ("the best branch", single), ("the uniform merge", gain { $0.entries[uniform].report.mean }),
            ("the greedy soup", gain { $0.entries[greedy].report.mean }),
        ]
        for (name, gain) in gains {
            result.claim(
                "in the mean of both texts the search is ahead of \(name), with every seed",
                gain.values.allSatisfy { $0 > 0 }, "by \(gain.text)")
        }
        let overUniform = outcomes.compactMap { outcome in
            outcome.aheadOfUniform.map { (outcome.entries[uniform].report, $0.report) }
        }
        result.claim(
            "a merge that is ahead of the uniform one on both texts of the search split is so on the report split, "
                + "with every seed", overUniform.count == outcomes.count && overUniform.allSatisfy { $1.dominates($0) },
            "by \(Sample(overUniform.map { $0.first - $1.first }).text) and "
                + Sample(overUniform.map { $0.second - $1.second }).text)
        let overBranches = branches.indices.map { index in
            outcomes.count { $0.aheadOfBranches[index]?.report.dominates($0.entries[index].report) ?? false }
        }
        result.claim(
            "for every branch there is a merge that is ahead of it on both texts, with every seed",
            overBranches.allSatisfy { $0 == outcomes.count },
            zip(branches, overBranches).map { "\($0.name): \($1)" }.joined(separator: "; ")
                + " of \(outcomes.count) seeds")
        // A tenth of an equal share.
        let kept = outcomes.map { outcome in
            outcome.coefficients.count { abs($0) > 0.1 / Double(branches.count) }
        }
        result.claim(
            "nearly all branches keep a weight in it", kept.allSatisfy { $0 >= branches.count - 1 },
            kept.map { "\($0)" }.joined(separator: ", ") + " of \(branches.count) beyond a tenth of an equal share")
        result.claim(
            "a search for both that was stored in the middle and gone on with ends as the uninterrupted one",
            outcomes.allSatisfy(\.isResumeIdentical), "in every bit")
        result.scatter = chart(outcomes[0], trunk: trunk, uniform: uniform, greedy: greedy, searched: searched)
        return result
    }

    private static func run(_ setting: ExperimentSetting, _ texts: TwoTexts, seed: UInt64) throws -> SeedResult {
        let limit = setting.validationCount
        func losses(_ part: HeldOutPart.Half, _ limit: Int) throws -> (any CheckpointReader) throws -> Losses {
            let first = try HeldOutLoss(texts.model, texts.first, part, limit: limit)
            let second = try HeldOutLoss(texts.model, texts.second, part, limit: limit)
            return { Losses(first: try first($0), second: try second($0)) }
        }
        let (searched, reported) = (try losses(.search, limit), try losses(.report, 2 * limit))
        let trunk = try FineTuning.trunk(
            steps: setting.step(0.5), setting, texts, seed: seed, in: setting.store("\(name)-\(seed)-trunk"))
        let inputs = try branches.enumerated().map { index, branch in
            try branch.run(
                from: trunk, steps: setting.step(0.5), setting, texts, seed: seed * 100 + UInt64(index),
                in: setting.store("\(name)-\(seed)-\(index)"))
        }
        var outcome = SeedResult()
        func note(_ reader: any CheckpointReader) throws {
            outcome.entries.append(LossPair(search: try searched(reader), report: try reported(reader)))
        }
        for input in inputs { try note(input.reader) }
        try note(trunk.reader)
        try note(MergedCheckpoint(averaging: inputs))
        let order = branches.indices.sorted { outcome.entries[$0].search.mean < outcome.entries[$1].search.mean }
        let soup = try GreedySoup(of: order.map { inputs[$0] }, options: StoredWeights.options) {
            try searched($0).mean
        }
        outcome.greedyCount = soup.members.count
        try note(soup.merged)

        let space = try CoefficientSpace(inputs, options: StoredWeights.options)
        let split = SearchSplit { merged in
            let found = try searched(merged)
            return ["first": found.first, "second": found.second]
        }
        var trials: [MergeSearch<EvolutionStrategy>.Trial] = []
        for weight in weights {
            let search = try InterruptedSearch(
                MergeSearch(
                    space, strategy: EvolutionStrategy(start: space.uniformPoint, step: 0.1, seed: seed),
                    objectives: objectives, weights: [weight, 1 - weight]),
                evaluations: setting.evaluations / 2, on: split, in: setting.store("\(name)-\(seed)-search-\(weight)"))
            if !search.isIdentical { outcome.isResumeIdentical = false }
            trials += search.search.trials
            guard let best = search.search.strategy.best else { continue }
            if weight == weights[0] { outcome.coefficients = try space.coefficients(of: best.point)[0] }
            try note(space.merged(best.point))
        }
        func ahead(of other: Losses) throws -> LossPair? {
            let found = trials.map { (trial: $0, losses: Losses(first: $0.values[0], second: $0.values[1])) }
                .filter { $0.losses.dominates(other) }.min { $0.losses.mean < $1.losses.mean }
            return try found.map { found in
                LossPair(search: found.losses, report: try reported(space.merged(found.trial.point)))
            }
        }
        outcome.aheadOfUniform = try ahead(of: outcome.entries[branches.count + 1].search)
        outcome.aheadOfBranches = try branches.indices.map { try ahead(of: outcome.entries[$0].search) }
        guard seed == setting.seeds[0] else { return outcome }
        let front = ParetoFront.of(trials, values: \.values)
        outcome.front = try front.map { try reported(space.merged($0.point)) }
        return outcome
    }

    /// The first seed's models on the report split.
    private static func chart(
        _ outcome: SeedResult, trunk: Int, uniform: Int, greedy: Int, searched: Int
    ) -> ScatterChart {
        func points(_ indices: Range<Int>) -> [(x: Double, y: Double)] {
            outcome.entries[indices].map { ($0.report.first, $0.report.second) }
        }
        let front = outcome.front.map { (x: $0.first, y: $0.second) }.sorted { $0.x < $1.x }
        return ScatterChart(
            x: "loss on the first text (nats, report split, first seed)", y: "loss on the other text (nats)",
            series: [
                .init(name: "best in the searches", points: front, colour: "#f4a6a6", radius: 3, isJoined: true),
                .init(
                    name: "branches", points: points(branches.indices), colour: "#1f77b4", radius: 6,
                    labels: branches.map(\.name)),
                .init(name: "the trunk", points: points(trunk..<trunk + 1), colour: "#999999", radius: 6),
                .init(name: "uniform", points: points(uniform..<uniform + 1), colour: "#ff7f0e", radius: 6),
                .init(
                    name: "greedy soup of \(outcome.greedyCount)", points: points(greedy..<greedy + 1),
                    colour: "#2ca02c", radius: 6),
                .init(
                    name: "searches", points: points(searched..<searched + weights.count), colour: "#d62728",
                    radius: 6, labels: weights.map { "\($0)" }),
            ])
    }
}
