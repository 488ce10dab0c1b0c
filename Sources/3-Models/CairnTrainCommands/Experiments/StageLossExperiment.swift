import Cairn
import CairnCheckpoint
import CairnMerge
import CairnTrain

/// Blocks that are lost again and again, and what takes their place (CheckFree, Blagoev et al. 2025).
struct StageLossExperiment: Experiment {
    static let name = "checkfree"
    static let summary = "What a lost block costs, by what takes its place, beside what a checkpoint has."

    private static let blocks = 8

    /// A way to go on after a loss.
    fileprivate enum Way {
        case nothingLost
        case replaced(StageLosses)
        /// The whole run goes back to its last checkpoint.
        case back
    }

    private struct Variant {
        var name: String
        var way: Way
        /// Which blocks are lost: those in the middle, or the first and the last.
        var losesEnds = false
        var isSwapped = false
    }

    private static func replaced(
        _ replacement: StageLosses.Replacement, _ weights: NeighbourWeights = .gradientNorms, rate: Double = 1
    ) -> Way {
        .replaced(StageLosses(replacement: replacement, weights: weights, rateFactor: rate))
    }

    private static let variants = [
        Variant(name: "nothing lost", way: .nothingLost),
        Variant(name: "neighbours, by gradient norms", way: replaced(.neighbours)),
        Variant(name: "the same, rate × 1.2", way: replaced(.neighbours, rate: 1.2)),
        Variant(name: "neighbours, by squared norms", way: replaced(.neighbours, .squaredNorms)),
        Variant(name: "neighbours, equal", way: replaced(.neighbours, .equal)),
        Variant(name: "copy of the block before", way: replaced(.copy)),
        Variant(name: "random numbers", way: replaced(.`init`)),
        Variant(name: "the block from a checkpoint", way: replaced(.older)),
        Variant(name: "back to the checkpoint", way: .back),
        Variant(name: "swapped, nothing lost", way: .nothingLost, isSwapped: true),
        Variant(name: "ends lost, copies", way: replaced(.neighbours), losesEnds: true),
        Variant(name: "ends lost, swapped, copies", way: replaced(.neighbours), losesEnds: true, isSwapped: true),
    ]

    /// What a run came to.
    private struct Outcome {
        /// How much each loss raised the validation loss at once.
        var rises: [Double] = []
        var points: [(step: Int, loss: Double)] = []
        var end: Double { points.last?.loss ?? .nan }
    }

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        // Each some steps behind a checkpoint, as failures are.
        let losses = [0.3, 0.45, 0.6, 0.75].map(setting.step)
        let age = setting.step(0.1)
        var outcomes = variants.map { _ in [Outcome]() }
        for seed in setting.seeds {
            for (index, variant) in variants.enumerated() {
                outcomes[index].append(try run(variant, setting, seed: seed, losses: losses, age: age))
            }
        }
        var result = ExperimentResult(columns: ["lost blocks are", "rise at a loss", "at the end", "more than without loss"])
        func sample(_ index: Int) -> Sample { Sample(outcomes[index].map(\.end)) }
        func excess(_ index: Int) -> Sample { sample(index) - sample(variants[index].isSwapped ? swapped : 0) }
        let swapped = variants.firstIndex { $0.isSwapped } ?? 0
        for (index, variant) in variants.enumerated() {
            let rise = Sample(outcomes[index].map { $0.rises.isEmpty ? 0 : Sample($0.rises).mean })
            result.rows.append([
                variant.name, outcomes[index].contains { !$0.rises.isEmpty } ? rise.text : "", sample(index).text,
                index == 0 || index == swapped ? "" : excess(index).text,
            ])
        }
        let colours = [
            "#333333", "#d62728", "#ff9896", "#9467bd", "#1f77b4", "#2ca02c", "#ff7f0e", "#8c564b", "#17becf", "#999999",
            "#e377c2",
            "#bcbd22",
        ]
        result.panels = [
            ChartPanel(
                label: "validation loss (nats)",
                curves: zip(variants.indices, colours).map { index, colour in
                    LossCurve(
                        name: variants[index].name, points: meanCurve(outcomes[index].map(\.points)), colour: colour, mark: "o",
                        width: index == 0 ? 4 : 1.5)
                }, hasLegend: true)
        ]
        func index(_ name: String) -> Int { variants.firstIndex { $0.name == name } ?? 0 }
        let (mean, equal, random) = (1, index("neighbours, equal"), index("random numbers"))
        let (stored, back) = (index("the block from a checkpoint"), index("back to the checkpoint"))
        result.claim(
            "the weighted mean of the neighbours ends ahead of random numbers, with every seed",
            (sample(random) - sample(mean)).values.allSatisfy { $0 > 0 }, "by \((sample(random) - sample(mean)).text)")
        result.claim(
            "weights by gradient norms end ahead of equal ones, with every seed",
            (sample(equal) - sample(mean)).values.allSatisfy { $0 > 0 }, "by \((sample(equal) - sample(mean)).text)")
        result.claim(
            "the block from a checkpoint of \(age) steps before costs less than the neighbours' mean, with every seed",
            (sample(mean) - sample(stored)).values.allSatisfy { $0 > 0 }, "by \((sample(mean) - sample(stored)).text)")
        let repeated = losses.count * age
        result.claim(
            "a run that goes back to its checkpoints ends as the uninterrupted one", excess(back).values.allSatisfy { $0 == 0 },
            "after \(repeated) steps more of computing, \(repeated * 100 / setting.steps) of 100")
        let (plain, twins) = (index("ends lost, copies"), index("ends lost, swapped, copies"))
        result.claim(
            "with swapped blocks the loss of an end costs less, with every seed",
            (excess(plain) - excess(twins)).values.allSatisfy { $0 > 0 }, "by \((excess(plain) - excess(twins)).text)")
        let norms = try normDeviations(setting)
        result.claim(
            "gradient norms read off second moments are those of the last 50 steps, to 20 %", norms.steps < 0.2,
            "off by \(percent(norms.steps)) on average, by \(percent(norms.last)) from those of the last step alone")
        return result
    }

    private static func percent(_ fraction: Double) -> String { "\((fraction * 1000).rounded() / 10) %" }

    private static func trainer(_ setting: ExperimentSetting, seed: UInt64, isSwapped: Bool) throws -> Trainer {
        let text = try setting.text
        var options = setting.options(seed: seed)
        options.batchSize = 8
        options.swapsEnds = isSwapped
        let model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: text.context, layers: blocks, heads: 2, width: 32)
        return try Trainer(
            transformer: model, text: text, optimizer: .adamW(), schedule: setting.constant, options: options)
    }

    private static func run(
        _ variant: Variant, _ setting: ExperimentSetting, seed: UInt64, losses: [Int], age: Int
    ) throws -> Outcome {
        let trainer = try trainer(setting, seed: seed, isSwapped: variant.isSwapped)
        let store = CheckpointStore(storage: MemoryStorage(), name: name)
        // The same blocks for every variant of a seed.
        var random = PhiloxGenerator(key: seed, stream: 7)
        let order = losses.indices.map { index in
            variant.losesEnds ? index % 2 * (blocks - 1) : 1 + Int(random.next() % UInt64(blocks - 2))
        }
        var outcome = Outcome()
        let spacing = max(1, setting.steps / 40)
        while trainer.stepCount < setting.steps {
            let step = trainer.stepCount
            if losses.contains(step + age), variant.way.needsCheckpoint {
                try store.save(trainer.trainingState, step: step)
            }
            if let index = losses.firstIndex(of: step) {
                let before = setting.loss(trainer)
                switch variant.way {
                case .nothingLost: break
                case .replaced(var stage):
                    stage.seed = seed
                    let older = stage.replacement == .older ? try store.open(step: step - age) : nil
                    try stage.replace(order[index], of: trainer, older: older)
                    outcome.rises.append(setting.loss(trainer) - before)
                case .back:
                    try trainer.restore(store.load(step: step - age))
                    try trainer.train(steps: age)
                }
            }
            try trainer.step()
            if trainer.stepCount % spacing == 0 || trainer.stepCount == setting.steps {
                outcome.points.append((trainer.stepCount, setting.loss(trainer)))
            }
        }
        return outcome
    }

    /// How far norms read off second moments are from those of the gradients: of the mean square over 50 steps, and of the last
    /// step; the mean over blocks, as fractions.
    private static func normDeviations(_ setting: ExperimentSetting) throws -> (steps: Double, last: Double) {
        let trainer = try trainer(setting, seed: setting.seeds[0], isSwapped: false)
        let count = min(50, setting.steps)
        try trainer.train(steps: setting.steps - count)
        var squares = [Double](repeating: 0, count: blocks), last = squares
        try trainer.train(steps: count) { report in
            // The moments see clipped gradients.
            let scale = min(1, 1 / (report.gradientNorm + 1e-6))
            last = [Double](repeating: 0, count: blocks)
            for (name, gradient) in try trainer.summedGradients() {
                let parts = name.split(separator: ".")
                guard parts.count > 3, parts[1] == "layers", let block = Int(parts[2]) else { continue }
                last[block] += try gradient.elements(as: Float.self).reduce(0) { $0 + Double($1) * Double($1) } * scale * scale
            }
            for block in 0..<blocks { squares[block] += last[block] / Double(count) }
        }
        var (ofSteps, ofLast) = ([Double](), [Double]())
        let memory = CheckpointStore(storage: MemoryStorage(), name: name)
        try memory.save(trainer.trainingState, step: trainer.stepCount)
        let reader = try memory.open(step: trainer.stepCount)
        for block in stride(from: 1, to: blocks - 1, by: 2) {
            let recovered = try RecoveredCheckpoint(
                reader, lost: LostTensors(["model.layers.\(block).*"], of: reader), from: .neighbours())
            guard case .dictionary(let norms)? = recovered.lineage.details["gradient_norms"] else { continue }
            for neighbour in [block - 1, block + 1] {
                guard case .double(let norm)? = norms["model.layers.\(neighbour)"] else { continue }
                ofSteps.append(abs(norm / squares[neighbour].squareRoot() - 1))
                ofLast.append(abs(norm / last[neighbour].squareRoot() - 1))
            }
        }
        return (Sample(ofSteps).mean, Sample(ofLast).mean)
    }
}

extension StageLossExperiment.Way {
    /// Whether a checkpoint is kept for a loss.
    fileprivate var needsCheckpoint: Bool {
        switch self {
        case .nothingLost: false
        case .replaced(let losses): losses.replacement == .older
        case .back: true
        }
    }
}
