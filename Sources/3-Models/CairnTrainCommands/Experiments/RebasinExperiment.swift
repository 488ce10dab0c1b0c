import Cairn
import CairnCheckpoint
import CairnMerge
import CairnTrain

/// Networks that were trained apart, interpolated before and after their units are matched (Git Re-Basin, Ainsworth et
/// al. 2023).
struct RebasinExperiment: Experiment {
    static let name = "rebasin"
    static let summary = "Whether networks trained apart are connected once their units are in the same order."

    /// How the second network's units are brought into the first one's order.
    private enum Matching: String, CaseIterable {
        case none = "as they are"
        case weights = "weights matched"
        case activations = "activations matched"

        var colour: String {
            switch self {
            case .none: "#d62728"
            case .weights: "#1f77b4"
            case .activations: "#2ca02c"
            }
        }
    }

    /// What must hold exactly, or but for rounding, of every pair.
    private struct Symmetry {
        /// How far scores are apart after the units moved, relative to the greatest.
        var deviation = 0.0
        /// Whether matching undid every permutation, to the last bit of every tensor.
        var recovered = true
        /// How far the scores of a rearranged state trained on are from those of the state itself trained on.
        var trainedOn = 0.0
        /// The same, with the optimizer's moments left in their order.
        var momentsLeft = 0.0
    }

    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult {
        var result = ExperimentResult(
            columns: ["hidden layers", "loss at the ends"] + Matching.allCases.map { "barrier, \($0.rawValue)" }
                + ["accuracy in the middle, as they are", "weights matched"])
        var barriers: [[Matching: Sample]] = []
        var symmetry = Symmetry()
        for (index, width) in setting.widths.enumerated() {
            var paths: [Matching: [LossPath]] = [:]
            for seed in setting.seeds {
                let pair = try Pair(setting, width: width, seed: seed)
                for matching in Matching.allCases {
                    paths[matching, default: []].append(
                        try pair.space.path(pair.first, pair.second(matched: matching)))
                }
                try pair.examine(&symmetry, seed: seed)
            }
            let own = Dictionary(
                uniqueKeysWithValues: Matching.allCases.map { ($0, Sample(paths[$0, default: []].map(\.barrier))) })
            barriers.append(own)
            let ends = paths[.none, default: []].flatMap { [$0.losses[0], $0.losses[$0.losses.count - 1]] }
            func middle(_ matching: Matching) -> String {
                Sample(paths[matching, default: []].map { $0.evaluations[$0.evaluations.count / 2].accuracy }).text
            }
            result.rows.append(
                ["2 of \(width)", Sample(ends).text] + Matching.allCases.map { own[$0]?.text ?? "" }
                    + [middle(.none), middle(.weights)])
            result.panels.append(
                ChartPanel(
                    label: "validation loss, width \(width)",
                    curves: Matching.allCases.map { matching in
                        LossCurve(
                            name: matching.rawValue, points: meanPath(paths[matching, default: []]),
                            colour: matching.colour, mark: "o", width: matching == .none ? 4 : 2,
                            isDashed: matching == .activations)
                    }, hasLegend: index == 0))
        }
        result.axis = "from the first network (0) to the second (100)"
        evaluateClaims(barriers, setting.widths, symmetry, &result)
        return result
    }

    private static func evaluateClaims(
        _ barriers: [[Matching: Sample]], _ widths: [Int], _ symmetry: Symmetry, _ result: inout ExperimentResult
    ) {
        func sample(_ index: Int, _ matching: Matching) -> Sample { barriers[index][matching] ?? Sample([]) }
        let places = barriers.indices
        result.claim(
            "matching weights lowers the barrier at every width, with every pair",
            places.allSatisfy { zip(sample($0, .none).values, sample($0, .weights).values).allSatisfy(>) },
            places.map { "\(decimal(sample($0, .none).mean)) to \(decimal(sample($0, .weights).mean))" }
                .joined(separator: ", "))
        if let widest = places.max(by: { widths[$0] < widths[$1] }) {
            let matched = sample(widest, .weights), naive = sample(widest, .none)
            result.claim(
                "at the greatest width the barrier falls near zero, below 0.02 nats, with every pair",
                matched.values.allSatisfy { $0 < 0.02 } && naive.values.allSatisfy { $0 > 0.02 },
                "\(matched.text) of \(naive.text) at \(widths[widest])")
        }
        let byWidth = places.sorted { widths[$0] < widths[$1] }
        result.claim(
            "the wider the network, the less is left of the barrier",
            zip(byWidth, byWidth.dropFirst()).allSatisfy { sample($0, .weights).mean > sample($1, .weights).mean },
            byWidth.map { "\(decimal(sample($0, .weights).mean)) at \(widths[$0])" }.joined(separator: ", "))
        result.claim(
            "matching activations lowers the barrier too",
            places.allSatisfy { zip(sample($0, .none).values, sample($0, .activations).values).allSatisfy(>) },
            places.map { decimal(sample($0, .activations).mean) }.joined(separator: ", "))
        result.claim(
            "a network with its units in another order computes the same, to 1e-5", symmetry.deviation < 1e-5,
            "scores off by at most \(scientific(symmetry.deviation))")
        result.claim(
            "a planted permutation is recovered exactly", symmetry.recovered,
            symmetry.recovered ? "every tensor and moment has the same bits" : "tensors differ")
        result.claim(
            "a state whose moments moved along trains on to the same network, to 1e-3",
            symmetry.trainedOn < 1e-3 && symmetry.trainedOn < symmetry.momentsLeft / 10,
            "scores off by at most \(scientific(symmetry.trainedOn)) after \(Pair.stepsOn) steps, "
                + "by at least \(scientific(symmetry.momentsLeft)) where the moments stay")
    }

    /// Two networks of one width, trained apart.
    private struct Pair {
        /// How far states are trained on.
        static let stepsOn = 20

        let setting: ExperimentSetting
        let width: Int
        let seed: UInt64
        let first: CairnReader
        let second: CairnReader
        let space: WeightSpace
        private let layers = (0..<3).map { "model.layers.\($0)" }

        private var spec: PermutationSpec {
            .perceptron(weights: layers.map { $0 + ".weight" }, biases: layers.map { $0 + ".bias" })
        }

        init(_ setting: ExperimentSetting, width: Int, seed: UInt64) throws {
            self.setting = setting
            self.width = width
            self.seed = seed
            var readers: [CairnReader] = []
            // No other pair has either of the seeds.
            for own in [seed, seed + 1000] {
                let trainer = try Self.trainer(setting, width, own)
                try trainer.train(steps: setting.steps)
                let store = try setting.store("\(name)-\(width)-\(own)")
                try store.save(trainer.trainingState, step: setting.steps)
                readers.append(try store.open(step: setting.steps))
            }
            (first, second) = (readers[0], readers[1])
            space = WeightSpace(trainer: try Self.trainer(setting, width, seed), limit: .max)
        }

        private static func trainer(_ setting: ExperimentSetting, _ width: Int, _ seed: UInt64) throws -> Trainer {
            var options = setting.options(seed: seed)
            options.batchSize = 64
            return try Trainer(
                classifier: PerceptronConfiguration(hidden: [width, width]), digits: setting.digits,
                optimizer: .adamW(),
                schedule: LearningRateSchedule(
                    peak: 2e-3, warmupSteps: setting.step(0.05), floor: 0, shape: .cosine(steps: setting.steps)),
                options: options)
        }

        func second(matched matching: Matching) throws -> any CheckpointReader {
            switch matching {
            case .none: return second
            case .weights: return try PermutedReader(second, orders(second), by: spec)
            case .activations:
                let orders = try ActivationMatching.match(activations(second), to: activations(first))
                return try PermutedReader(second, orders, by: spec)
            }
        }

        /// The orders that make the weights of a network most like the first one's.
        private func orders(_ reader: any CheckpointReader) throws -> UnitPermutations {
            var random = SearchRandom(seed: seed)
            return try WeightMatching(spec).match(reader, to: first, using: &random).permutations
        }

        /// What each layer puts out for the training images, by its units' label.
        private func outputs(_ reader: any CheckpointReader, _ split: Split) throws -> [Tensor] {
            var weights: [String: Tensor] = [:]
            for (name, _) in space.trainer.parameters { weights[name] = try reader.tensor(name) }
            try space.trainer.replaceParameters(weights)
            return try space.trainer.layerOutputs(split)
        }

        private func activations(_ reader: any CheckpointReader) throws -> [String: Tensor] {
            let outputs = try outputs(reader, .training)
            return ["hidden.0": outputs[0], "hidden.1": outputs[1]]
        }

        /// How far the scores of the validation images are apart, relative to the greatest.
        private func deviation(_ one: any CheckpointReader, _ other: any CheckpointReader) throws -> Double {
            let scores = try [one, other].map { try outputs($0, .validation)[2].elements(as: Float.self) }
            let greatest = scores[0].map(abs).max() ?? 0
            return Double(zip(scores[0], scores[1]).map { abs($0 - $1) }.max() ?? 0) / Double(max(greatest, 1e-30))
        }

        /// Rearranges the first network at random, with its moments, and finds the way back.
        func examine(_ symmetry: inout Symmetry, seed: UInt64) throws {
            var random = SearchRandom(seed: seed)
            let planted = try UnitPermutations(randomFor: spec, in: first, using: &random)
            var whole = spec
            for moment in ["exp_avg", "exp_avg_sq"] { whole.merge(spec.renamed { "optimizer.\(moment).\($0)" }) }
            let moved = try PermutedReader(first, planted, by: whole)
            symmetry.deviation = max(symmetry.deviation, try deviation(first, moved))
            let back = try PermutedReader(moved, orders(moved), by: whole)
            for tensor in first.tensors where try back.tensor(tensor.name) != first.tensor(tensor.name) {
                symmetry.recovered = false
            }
            let expected = try trainedOn(first)
            symmetry.trainedOn = max(symmetry.trainedOn, try deviation(expected, trainedOn(moved)))
            let left = try deviation(expected, trainedOn(PermutedReader(first, planted, by: spec)))
            symmetry.momentsLeft = symmetry.momentsLeft == 0 ? left : min(symmetry.momentsLeft, left)
        }

        /// A state some steps later.
        private func trainedOn(_ reader: any CheckpointReader) throws -> any CheckpointReader {
            let trainer = try Self.trainer(setting, width, seed)
            try trainer.restore(TrainingState(reading: reader))
            // Its own schedule has come to its end.
            trainer.schedule = LearningRateSchedule(peak: 2e-4)
            try trainer.train(steps: Self.stepsOn)
            let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
            try store.save(trainer.trainingState, step: 1)
            return try store.open(step: 1)
        }
    }
}
