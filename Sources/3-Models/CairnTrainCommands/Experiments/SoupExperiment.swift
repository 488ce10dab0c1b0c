import Cairn
import CairnMerge
import CairnTrain

/// Averages of models that were fine-tuned from one trunk ("Model soups", Wortsman et al. 2022).
struct SoupExperiment: Experiment {
    static let name = "soup"
    static let summary = "Whether averages of fine-tuned models are ahead of the best one, on a shifted text too."

    /// From too careful to far too bold.
    private static let variants = [
        FineTuning(name: "3e-4", eighths: 8, rate: 3e-4),
        FineTuning(name: "1e-3", eighths: 8, rate: 1e-3),
        FineTuning(name: "1e-3, no weight decay", eighths: 8, rate: 1e-3, weightDecay: 0),
        FineTuning(name: "2e-3", eighths: 8, rate: 2e-3),
        FineTuning(name: "2e-3, weight decay 1", eighths: 8, rate: 2e-3, weightDecay: 1),
        FineTuning(name: "3e-3", eighths: 8, rate: 3e-3),
        FineTuning(name: "6e-3", eighths: 8, rate: 6e-3),
        FineTuning(name: "2e-2, no weight decay", eighths: 8, rate: 2e-2, weightDecay: 0),
    ]

    /// The rows of the table, in its order.
    private enum Row: Int, CaseIterable {
        case trunk, worst, best, uniform, greedy, learned, layers

        var name: String {
            switch self {
            case .trunk: "the trunk"
            case .worst: "the worst model"
            case .best: "the best model"
            case .uniform: "uniform soup"
            case .greedy: "greedy soup"
            case .learned: "learned soup"
            case .layers: "learned by layer"
            }
        }
    }

    /// Losses on the three splits.
    private struct Losses {
        var search: Double
        var report: Double
        var shifted: Double
    }

    private struct SeedResult {
        var variants: [Losses] = []
        /// By row.
        var entries: [Losses] = []
        var greedyCount = 0
        /// The mean loss on the shifted text of the greedy soup's members.
        var memberLoss = 0.0
    }

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        let texts = try TwoTexts(setting)
        let outcomes = try setting.seeds.map { try run(setting, texts, seed: $0, decays: false) }
        let decayed = try setting.seeds.map { try run(setting, texts, seed: $0, decays: true) }
        var result = ExperimentResult(columns: ["model", "held out", "report split", "shifted text"])
        func addRows(_ rows: [Row], of outcomes: [SeedResult], _ prefix: String) {
            for row in rows {
                var name = prefix + row.name
                if row == .greedy { name += " of " + outcomes.map { "\($0.greedyCount)" }.joined(separator: ", ") }
                func text(_ loss: KeyPath<Losses, Double>) -> String {
                    Sample(outcomes.map { $0.entries[row.rawValue][keyPath: loss] }).text
                }
                result.rows.append([name, text(\.search), text(\.report), text(\.shifted)])
            }
        }
        addRows(Row.allCases, of: outcomes, "")
        addRows([.best, .uniform, .greedy, .learned], of: decayed, "decayed: ")
        func gain(
            _ row: Row, over other: Row, _ loss: KeyPath<Losses, Double>, in outcomes: [SeedResult] = outcomes
        ) -> Sample {
            Sample(outcomes.map { $0.entries[other.rawValue][keyPath: loss] - $0.entries[row.rawValue][keyPath: loss] })
        }
        func claim(_ claim: String, _ gain: Sample) {
            result.claim(claim + ", with every seed", gain.values.allSatisfy { $0 > 0 }, "by \(gain.text)")
        }
        claim("the greedy soup is ahead of the best model on the report split", gain(.greedy, over: .best, \.report))
        claim("with bad models among them the uniform soup is behind the best", gain(.best, over: .uniform, \.report))
        claim("the learned soup is ahead of the greedy one", gain(.learned, over: .greedy, \.report))
        claim("learned layer by layer it is ahead of the learned one", gain(.layers, over: .learned, \.report))
        claim("on the shifted text the greedy soup is ahead of the best model", gain(.greedy, over: .best, \.shifted))
        claim(
            "there it is ahead of the mean of its members",
            Sample(outcomes.map { $0.memberLoss - $0.entries[Row.greedy.rawValue].shifted }))
        let constant = gain(.greedy, over: .best, \.report)
        let after = gain(.greedy, over: .best, \.report, in: decayed)
        result.claim(
            "greedy soups gain less where the rate has decayed", after.mean < constant.mean,
            "\(after.text) against \(constant.text)")
        result.scatter = chart(outcomes[0])
        return result
    }

    /// - Parameter decays: Whether the rate of fine-tuning falls to a tenth, or stays.
    private static func run(
        _ setting: ExperimentSetting, _ texts: TwoTexts, seed: UInt64, decays: Bool
    ) throws -> SeedResult {
        let limit = setting.validationCount
        let searched = try HeldOutLoss(texts.model, texts.first, .search, limit: limit)
        let reported = try HeldOutLoss(texts.model, texts.first, .report, limit: 4 * limit)
        let shifted = try HeldOutLoss(texts.model, texts.second, .report, limit: 4 * limit)
        let trunk = try FineTuning.trunk(
            steps: setting.steps, setting, texts, seed: seed, in: setting.store("\(name)-\(seed)-trunk"))
        let inputs = try variants.enumerated().map { index, variant in
            var variant = variant
            variant.decays = decays
            return try variant.run(
                from: trunk, steps: setting.step(0.25), setting, texts, seed: seed * 100 + UInt64(index),
                in: setting.store("\(name)-\(seed)-\(index)"))
        }
        func losses(_ reader: any CheckpointReader) throws -> Losses {
            Losses(search: try searched(reader), report: try reported(reader), shifted: try shifted(reader))
        }
        var outcome = SeedResult()
        outcome.variants = try inputs.map { try losses($0.reader) }
        // As a user would choose: by what is held out for that.
        let order = variants.indices.sorted { outcome.variants[$0].search < outcome.variants[$1].search }
        let ranked = order.map { inputs[$0] }
        let greedy = try GreedySoup(of: ranked, options: StoredWeights.options, evaluating: searched.callAsFunction)
        outcome.greedyCount = greedy.members.count
        outcome.memberLoss = Sample(greedy.members.map { outcome.variants[order[$0]].shifted }).mean
        var settings = LearnedSoup.Settings()
        settings.seed = seed
        settings.evaluationLimit = setting.evaluations
        let learned = try LearnedSoup(
            of: ranked, settings: settings, options: StoredWeights.options, evaluating: searched.callAsFunction)
        settings.grouping = .layers
        settings.start = learned.coefficients[0]
        settings.step = 0.2
        let layers = try LearnedSoup(
            of: ranked, settings: settings, options: StoredWeights.options, evaluating: searched.callAsFunction)
        outcome.entries = [
            try losses(trunk.reader), outcome.variants[order[order.count - 1]], outcome.variants[order[0]],
            try losses(MergedCheckpoint(averaging: inputs)), try losses(greedy.merged), try losses(learned.merged),
            try losses(layers.merged),
        ]
        return outcome
    }

    /// The first seed's models.
    private static func chart(_ outcome: SeedResult) -> ScatterChart {
        func point(_ losses: Losses) -> (x: Double, y: Double) { (losses.report, losses.shifted) }
        var chart = ScatterChart(
            x: "loss on the text (nats, report split, first seed)", y: "loss on the shifted text (nats)",
            series: [
                .init(
                    name: "fine-tuned models", points: outcome.variants.map(point), colour: "#1f77b4",
                    labels: variants.map(\.name))
            ])
        let colours: [Row: String] = [
            .trunk: "#999999", .uniform: "#ff7f0e", .greedy: "#2ca02c", .learned: "#d62728", .layers: "#9467bd",
        ]
        for row in Row.allCases {
            guard let colour = colours[row] else { continue }
            chart.series.append(
                .init(name: row.name, points: [point(outcome.entries[row.rawValue])], colour: colour, radius: 6))
        }
        return chart
    }
}
