import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage
import CairnTensor
import CairnTrain
import Testing

/// Blocks that are lost while training, and an order of blocks that makes their loss cost less.
@Suite struct RestartTests {
    private static func trainer(
        layers: Int = 4, swapsEnds: Bool = false, parts: Int = 4, optimizer: OptimizerConfiguration = .adamW(weightDecay: 0)
    ) throws -> Trainer {
        let text = try TextDataset(text: TrainingCase.text, context: 16)
        let model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: layers, heads: 2, width: 16)
        var options = TrainingOptions()
        options.batchSize = 8
        options.gradientParts = parts
        options.swapsEnds = swapsEnds
        return try Trainer(
            transformer: model, text: text, optimizer: optimizer, schedule: LearningRateSchedule(peak: 0.01), options: options)
    }

    private static func lose(_ block: Int, of trainer: Trainer) throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(trainer.trainingState, step: 1)
        let reader = try store.open(step: 1)
        let recovered = try RecoveredCheckpoint(
            reader, lost: LostTensors(["model.layers.\(block).*"], of: reader), from: .neighbours())
        try trainer.restore(TrainingState(reading: recovered))
    }

    @Test func anOptimizerThatBeginsAnewTakesTheFirstStepOfAFreshOne() throws {
        let trainer = try Self.trainer()
        try trainer.train(steps: 9)
        try Self.lose(2, of: trainer)
        trainer.setRateFactor(1.2) { $0.hasPrefix("model.layers.2.") }
        let before = trainer.state().tensorsByName
        try trainer.step()
        let after = trainer.state().tensorsByName
        func numbers(_ tensors: [String: Tensor], _ name: String) throws -> [Double] {
            try #require(tensors[name]).converted(to: .f64).elements(as: Double.self)
        }
        for (block, factor, count) in [(2, 1.2, 1), (1, 1.0, 10)] {
            let name = "model.layers.\(block).mlp.up.weight"
            let (old, new) = (try numbers(before, name), try numbers(after, name))
            let (m, v) = (
                try numbers(after, "optimizer.exp_avg.\(name)"), try numbers(after, "optimizer.exp_avg_sq.\(name)")
            )
            var (first, second) = (1.0, 1.0)
            for _ in 0..<count { (first, second) = (first * 0.9, second * 0.95) }
            for index in old.indices {
                let update = m[index] / (1 - first) / ((v[index] / (1 - second)).squareRoot() + 1e-8)
                #expect(abs(new[index] - (old[index] - 0.01 * factor * update)) < 2e-6, "block \(block), \(index)")
            }
        }
    }

    @Test(arguments: [OptimizerConfiguration.adamW(), .muon()])
    func aRunThatLostABlockResumesBitForBit(_ optimizer: OptimizerConfiguration) throws {
        let whole = try Self.trainer(swapsEnds: true, optimizer: optimizer)
        try whole.train(steps: 5)
        if optimizer.kind == .adamW { try Self.lose(0, of: whole) } else { try Self.loseAlike(whole) }
        whole.setRateFactor(1.1) { _ in true }
        try whole.train(steps: 3)
        let middle = whole.state()
        try whole.train(steps: 4)
        let resumed = try Self.trainer(swapsEnds: true, optimizer: optimizer)
        try resumed.restore(tensors: middle.tensorsByName, values: middle.values)
        try resumed.train(steps: 4)
        ResumeTests.expectEqual(resumed.state(), whole.state(), "after four more steps")
    }

    /// Muon has no second moments of matrices to weigh by.
    private static func loseAlike(_ trainer: Trainer) throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(trainer.trainingState, step: 1)
        let reader = try store.open(step: 1)
        let recovered = try RecoveredCheckpoint(
            reader, lost: LostTensors(["model.layers.1.*"], of: reader), from: .neighbours(.equal))
        try trainer.restore(TrainingState(reading: recovered))
    }

    @Test func restartsThatCannotBeAreRefused() throws {
        let trainer = try Self.trainer()
        try trainer.train(steps: 3)
        try Self.lose(1, of: trainer)
        let state = trainer.state()
        for (step, factor) in [(4, 1.0), (-1, 1.0), (2, 0.0), (2, -.infinity), (2, .nan)] {
            var values = state.values
            guard case .dictionary(var optimizer)? = values["optimizer"] else { continue }
            optimizer["restarts"] = [
                "model.layers.1.mlp.up.weight": ["step": .integer(Int64(step)), "rate_factor": .double(factor)]
            ]
            values["optimizer"] = .dictionary(optimizer)
            let error = #expect(throws: CairnError.self) { try trainer.restore(tensors: state.tensorsByName, values: values) }
            #expect(error?.description.contains("restarts") == true)
        }
    }

    @Test func inHalfOfTheStepsTheEndsChangePlaces() throws {
        // With one part the even steps go in order and the odd ones swapped.
        let swapped = try Self.trainer(layers: 5, swapsEnds: true, parts: 1), plain = try Self.trainer(layers: 5, parts: 1)
        #expect(try swapped.step() == plain.step())
        let partner = [0: 1, 1: 0, 2: 2, 3: 4, 4: 3]
        func exchanged(_ name: String) -> String {
            let parts = name.split(separator: ".")
            guard parts[1] == "layers", let block = Int(parts[2]), let other = partner[block] else { return name }
            return "model.layers.\(other)." + parts[3...].joined(separator: ".")
        }
        var moved: [String: Tensor] = [:]
        for (name, tensor) in plain.parameters { moved[exchanged(name)] = tensor }
        try plain.replaceParameters(moved)
        try swapped.step()
        try plain.step()
        let (own, expected) = (try swapped.summedGradients(), try plain.summedGradients())
        for (name, gradient) in own { #expect(gradient == expected[exchanged(name)], "\(name)") }
        #expect(own["model.layers.0.mlp.up.weight"] != own["model.layers.1.mlp.up.weight"])
        // Evaluation goes in order.
        let order = try Self.trainer(layers: 5, parts: 1)
        try order.replaceParameters(swapped.state().tensorsByName)
        #expect(swapped.evaluate(limit: 8) == order.evaluate(limit: 8))
    }

    @Test func blocksThatCannotChangePlacesAreRefused() throws {
        #expect(throws: CairnError.self) { try Self.trainer(layers: 3, swapsEnds: true) }
        let trainer = try Self.trainer(swapsEnds: true), other = try Self.trainer()
        #expect(throws: CairnError.self) { try other.restore(trainer.trainingState) }
    }
}
