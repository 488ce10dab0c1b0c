import CTrainKernels
import CairnBase
import CairnTensor
import CairnTrain
import Testing

/// Layers of experts on one rank.
@Suite struct ExpertTests {
    static func model(
        _ experts: ExpertConfiguration?, _ change: (inout TransformerConfiguration) -> Void = { _ in }
    ) -> TransformerConfiguration {
        var model = TransformerConfiguration(vocabularySize: 11, context: 7, layers: 2, heads: 2, width: 12)
        model.feedForwardMultiple = 2
        model.experts = experts
        change(&model)
        return model
    }

    static let configurations: [TransformerConfiguration] = {
        var list: [TransformerConfiguration] = []
        for (count, chosen, every, balance) in [
            (3, 3, 1, 0.0), (4, 2, 1, 0.5), (4, 2, 2, 0), (3, 1, 2, 0.5), (2, 2, 2, 0.1),
        ] {
            for hasOtherOptions in [false, true] {
                let experts = ExpertConfiguration(
                    count: count, chosen: chosen, width: 10, every: every, balance: balance,
                    scale: chosen == count ? 2.5 : 1)
                list.append(
                    model(experts) {
                        $0.biases = hasOtherOptions
                        $0.feedForward = hasOtherOptions ? .swiglu : .gelu
                        $0.tiedEmbeddings = !hasOtherOptions
                    })
            }
        }
        return list
    }()

    /// The choice of experts jumps, and an expert that is never chosen has no gradient: with these seeds every expert is
    /// chosen by some token, and no token changes its choice within the steps of the differences.
    @Test(arguments: zip(configurations, [4, 4, 13, 13, 13, 13, 10, 10, 4, 4] as [UInt64]))
    func gradientsMatchDifferences(_ configuration: TransformerConfiguration, seed: UInt64) {
        expectGradientsMatchDifferences(
            of: Transformer(configuration),
            on: TransformerGradientTests.batch(vocabulary: 11, context: 7, sequences: 3),
            seed: seed, step: 0.005)
    }

    /// Whatever the router says, the weights of a token's experts sum to one.
    @Test(arguments: [1, 2, 4], TransformerConfiguration.FeedForward.allCases)
    func equalExpertsComputeWhatOneComputes(chosen: Int, feedForward: TransformerConfiguration.FeedForward) throws {
        let text = try TextDataset(text: TrainingCase.text, context: 16)
        func trainer(_ experts: ExpertConfiguration?) throws -> Trainer {
            var model = TransformerConfiguration(
                vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: 2, heads: 2, width: 16)
            model.biases = true
            model.feedForward = feedForward
            model.experts = experts
            return try Trainer(
                transformer: model, text: text, optimizer: .adamW(), schedule: LearningRateSchedule(peak: 0.01))
        }
        let dense = try trainer(nil)
        try dense.train(steps: 10)
        let sparse = try trainer(ExpertConfiguration(count: 4, chosen: chosen, width: 64))
        var tensors = Dictionary(uniqueKeysWithValues: sparse.parameters.map { ($0.name, $0.tensor) })
        let known = Dictionary(uniqueKeysWithValues: dense.parameters.map { ($0.name, $0.tensor) })
        var copied = 0
        for name in tensors.keys where !name.contains(".router.") {
            let parts = name.split(separator: ".")
            let source = parts.firstIndex(of: "experts").map { position in
                (parts[..<position] + parts[(position + 2)...]).joined(separator: ".")
            }
            tensors[name] = known[source ?? name]
            copied += source == nil ? 0 : 1
        }
        #expect(copied == 4 * (feedForward == .swiglu ? 6 : 4))
        try sparse.replaceParameters(tensors)
        #expect(abs(sparse.evaluate().loss - dense.evaluate().loss) < 1e-6)
        #expect(sparse.evaluate().accuracy == dense.evaluate().accuracy)
    }

    @Test func balanceIsOneWhenEvenAndTheNumberOfExpertsWhenOneGetsAll() {
        var load = [Float](repeating: 0, count: 4)
        let even = [Float](repeating: 0.25, count: 32)
        let choices = (0..<16).map { Int32($0 % 4) }
        #expect(abs(cairn_balance(8, 4, 2, even, choices, &load) - 1) < 1e-6)
        #expect(load == [0.25, 0.25, 0.25, 0.25])
        let sure = (0..<32).map { Float($0 % 4 == 2 ? 1 : 0) }
        #expect(abs(cairn_balance(8, 4, 1, sure, [Int32](repeating: 2, count: 8), &load) - 4) < 1e-6)
    }

    @Test func theLargestScoresAreChosenAndOfEqualOnesTheFirst() {
        var scores: [Float] = [0, 3, 3, 1, 3, -1, 5, 5, 2, 2]
        var choices = [Int32](repeating: -1, count: 6)
        var shares = [Float](repeating: 0, count: 6)
        cairn_route(2, 5, 3, 2, &scores, &choices, &shares)
        #expect(choices == [1, 2, 4, 1, 2, 3])
        for row in 0..<2 {
            #expect(abs(shares[row * 3..<row * 3 + 3].reduce(0, +) - 2) < 1e-6)
            #expect(abs(scores[row * 5..<row * 5 + 5].reduce(0, +) - 1) < 1e-6)
        }
        #expect(shares[3] == shares[4] && shares[4] > shares[5])
    }

    /// From a router that has favourites.
    @Test func theBalancingLossEvensTheLoad() throws {
        func balance(_ weight: Double) throws -> (first: Double, last: Double) {
            let text = try TextDataset(text: Fixture.bytes("kjv.txt"), context: 32)
            var model = TransformerConfiguration(
                vocabularySize: text.tokenizer.vocabularySize, context: 32, layers: 2, heads: 2, width: 32)
            model.experts = ExpertConfiguration(count: 8, chosen: 2, width: 32, every: 1, balance: weight)
            let trainer = try Trainer(
                transformer: model, text: text, optimizer: .adamW(), schedule: LearningRateSchedule(peak: 3e-3))
            var tensors = Dictionary(uniqueKeysWithValues: trainer.parameters.map { ($0.name, $0.tensor) })
            for (name, tensor) in tensors where name.contains(".router.") {
                tensors[name] = try Tensor(tensor.elements(as: Float.self).map { $0 * 40 }, tensor.shape)
            }
            try trainer.replaceParameters(tensors)
            var balances: [Double] = []
            try trainer.train(steps: 60) { balances.append($0.expertBalance ?? 0) }
            return (balances[0], balances.suffix(10).reduce(0, +) / 10)
        }
        let (free, held) = (try balance(0), try balance(0.3))
        #expect(free.first == held.first && free.first > 1.2, "\(free.first)")
        #expect(held.last < free.last - 0.1, "\(held.last) with the balancing loss, \(free.last) without")
        #expect(held.last >= 1)
    }

    @Test(arguments: [
        ExpertConfiguration(count: 0, width: 4), ExpertConfiguration(count: 2, chosen: 3, width: 4),
        ExpertConfiguration(count: 2, chosen: 0, width: 4), ExpertConfiguration(count: 2, width: 0),
        ExpertConfiguration(count: 2, width: 4, every: 3), ExpertConfiguration(count: 2, width: 4, every: 0),
        ExpertConfiguration(count: 2, width: 4, balance: .nan), ExpertConfiguration(count: 1 << 40, width: 1 << 40),
    ])
    func expertsThatCannotBeAreRefused(_ experts: ExpertConfiguration) throws {
        let text = try TextDataset(text: TrainingCase.text, context: 16)
        var model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: 2, heads: 2, width: 16)
        model.experts = experts
        let error = #expect(throws: CairnError.self) {
            try Trainer(transformer: model, text: text, optimizer: .adamW(), schedule: LearningRateSchedule(peak: 0.01))
        }
        #expect(error?.code == .invalidArgument)
    }
}
