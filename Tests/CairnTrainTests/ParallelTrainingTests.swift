import CairnLayout
import CairnTensor
import CairnTrain
import Testing

@Suite struct ParallelTrainingTests {
    static let cases: [ParallelCase] = [
        ParallelCase(mesh: "tp=2"),
        ParallelCase(mesh: "tp=3", hasOtherOptions: true),
        ParallelCase(mesh: "tp=4", optimizer: .muon(), hasOtherOptions: true),
        ParallelCase(mesh: "dp=2", optimizer: .sgd(momentum: 0.9, nesterov: true, weightDecay: 0.01)),
        ParallelCase(mesh: "dp=3", zero: true),
        ParallelCase(mesh: "dp=3", batchSize: 2, hasOtherOptions: true),
        ParallelCase(mesh: "dp=2", zero: true, optimizer: .muon()),
        ParallelCase(mesh: "tp=2,dp=2", zero: true, precision: .bfloat16WithMaster),
        ParallelCase(mesh: "dp=2,tp=3", zero: true, optimizer: .muon(), precision: .bfloat16WithMaster),
        ParallelCase(mesh: "pp=2", microBatches: 3, stageLayers: [3, 1]),
        ParallelCase(mesh: "pp=4", schedule: .allForwardFirst, hasOtherOptions: true),
        ParallelCase(mesh: "pp=2,dp=2", zero: true, optimizer: .muon(), microBatches: 2),
        ParallelCase(mesh: "tp=2,pp=2", optimizer: .muon(), precision: .bfloat16WithMaster),
        ParallelCase(mesh: "dp=2,pp=2,tp=2", zero: true, batchSize: 7, microBatches: 4),
        ParallelCase(mesh: "dp=2,tp=2", zero: true, optimizer: .muon(), experts: 4, average: WeightAverage(decay: 0.9)),
        ParallelCase(mesh: "ep=2", experts: 4),
        ParallelCase(mesh: "ep=3", zero: true, optimizer: .muon(), hasOtherOptions: true, experts: 4),
        ParallelCase(mesh: "ep=4", batchSize: 3, experts: 4),
        ParallelCase(
            mesh: "dp=2,ep=2", zero: true, precision: .bfloat16WithMaster, experts: 3,
            average: WeightAverage(decay: 0.5, warmsUp: false)),
        ParallelCase(mesh: "ep=2,tp=2,dp=2", zero: true, optimizer: .muon(), experts: 4),
        ParallelCase(mesh: "pp=2,ep=2,tp=2", batchSize: 5, microBatches: 4, hasOtherOptions: true, experts: 4),
        ParallelCase(mesh: "dp=2,pp=2,ep=2", zero: true, microBatches: 2, experts: 5),
    ]

    @Test(arguments: cases)
    func manyRanksLearnWhatOneLearns(_ run: ParallelCase) throws {
        let steps = 20
        let single = try run.makeTrainer()
        var norms: [Double] = []
        try single.train(steps: steps) { norms.append($0.gradientNorm) }
        let ranks = try run.run { try RankState($0, steps: steps) }
        let first = try #require(ranks.first)
        for rank in ranks {
            #expect(rank.losses == first.losses)
            #expect(rank.norms == first.norms)
            #expect(rank.values == first.values)
            #expect(rank.placed == first.placed)
            #expect(rank.evaluation == first.evaluation)
        }
        // A master weight that rounds to the other side is a difference of 2⁻⁸ in one weight.
        let tolerance = run.precision == .float32 ? 3e-6 : 3e-4
        for (one, many) in zip(single.lossHistory + norms, first.losses + first.norms) {
            #expect(abs(many - one) < tolerance * one)
        }
        let evaluation = single.evaluate(limit: 10)
        #expect(abs(evaluation.loss - first.evaluation.loss) < tolerance * evaluation.loss)
        #expect(run.precision != .float32 || evaluation.accuracy == first.evaluation.accuracy)

        let state = single.state()
        #expect(first.placed.map(\.name) == state.tensors.map(\.name))
        #expect(Self.withoutLosses(first.values) == Self.withoutLosses(state.values))
        for (placed, (name, tensor)) in zip(first.placed, state.tensors) {
            #expect(placed.shape == tensor.shape && placed.scalarType == tensor.scalarType, "\(name)")
            let whole = try WholeTensor.join(placed, ranks.map(\.local))
            if run.hasRoundingErrorsOnly(in: name) { continue }
            let (largest, scale) = try WholeTensor.difference(whole, tensor)
            #expect(largest <= (run.precision == .float32 ? 1e-4 : 2e-2) * scale, "\(name): \(largest) of \(scale)")
        }
    }

    private static func withoutLosses(_ values: [String: Value]) -> [String: Value] {
        guard case .dictionary(var trainer)? = values["trainer"] else { return values }
        trainer["recent_losses"] = nil
        return values.merging(["trainer": .dictionary(trainer)]) { $1 }
    }

    @Test(arguments: [
        ParallelCase(mesh: "tp=3,pp=2", hasOtherOptions: true), ParallelCase(mesh: "pp=2,tp=2", microBatches: 3),
        ParallelCase(mesh: "dp=3"), ParallelCase(mesh: "ep=2,tp=2", hasOtherOptions: true, experts: 3),
        ParallelCase(mesh: "pp=2,ep=2,dp=2", experts: 4),
    ])
    func gradientsOfWholeParametersAreThoseOfOneRank(_ run: ParallelCase) throws {
        let single = try run.makeTrainer()
        try single.train(steps: 1)
        let expected = try single.summedGradients()
        let ranks = try run.run { trainer in
            try trainer.train(steps: 1)
            return (placed: trainer.placedTensors, local: try trainer.gradients())
        }
        for placed in ranks[0].placed {
            guard let gradient = expected[placed.name], !run.hasRoundingErrorsOnly(in: placed.name) else { continue }
            let whole = try WholeTensor.join(placed, ranks.map(\.local))
            let (largest, scale) = try WholeTensor.difference(whole, gradient)
            #expect(scale > 1e-6 && largest <= 1e-5 * scale, "\(placed.name): \(largest) of \(scale)")
        }
    }

    @Test func bothPipelineSchedulesGiveTheSameBits() throws {
        var run = ParallelCase(mesh: "pp=2", microBatches: 5)
        let first = try run.run { try RankState($0, steps: 3) }
        run.schedule = .allForwardFirst
        let second = try run.run { try RankState($0, steps: 3) }
        #expect(first.map(\.losses) == second.map(\.losses))
        #expect(first.map(\.local) == second.map(\.local))
    }

    @Test func theOptimizerStateIsSharedEvenly() throws {
        let run = ParallelCase(mesh: "dp=4", zero: true, optimizer: .muon(), precision: .bfloat16WithMaster)
        let counts = try run.run { trainer in
            trainer.localTensors.filter { $0.key.hasPrefix("optimizer.") }.values.reduce(0) { $0 + $1.byteCount }
        }
        let total = try run.makeTrainer().state().tensors.filter { $0.name.hasPrefix("optimizer.") }
            .reduce(0) { $0 + $1.tensor.byteCount }
        #expect(counts.reduce(0, +) == total)
        for count in counts { #expect(count < total * 27 / 100, "\(counts)") }
    }
}
