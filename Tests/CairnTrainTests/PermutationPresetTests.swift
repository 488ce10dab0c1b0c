import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnStorage
import CairnTensor
import CairnTesting
import CairnTrain
import Testing

/// What `cairn align` knows of the trainer's models: that they compute the same with their units in any order.
@Suite struct PermutationPresetTests {
    /// A model whose weights are far enough from zero that each of them matters.
    struct Model: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var change: @Sendable (inout TransformerConfiguration) -> Void = { _ in }
        var isPerceptron = false

        static let all: [Model] = [
            Model(testDescription: "classifier", isPerceptron: true),
            Model(testDescription: "fused, tied"),
            Model(testDescription: "separate projections, biases, layer norms, learned positions, own head") {
                $0.fusedQKV = false
                $0.biases = true
                $0.norm = .layer
                $0.positions = .learned
                $0.tiedEmbeddings = false
            },
            Model(testDescription: "fused with biases, SwiGLU") {
                $0.biases = true
                $0.feedForward = .swiglu
            },
            Model(testDescription: "experts, SwiGLU, biases") {
                $0.biases = true
                $0.feedForward = .swiglu
                $0.experts = ExpertConfiguration(count: 4, width: 12)
            },
            Model(testDescription: "experts in every layer, three heads") {
                $0.heads = 3
                $0.experts = ExpertConfiguration(count: 3, chosen: 1, width: 10, every: 1)
            },
        ]

        func trainer() throws -> Trainer {
            if isPerceptron { return try TrainingCase(model: .perceptron).makeTrainer() }
            let text = try TextDataset(text: TrainingCase.text, context: 16)
            var configuration = TransformerConfiguration(
                vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: 2, heads: 4, width: 24)
            change(&configuration)
            var options = TrainingOptions()
            options.batchSize = 8
            options.average = WeightAverage(decay: 0.9, warmsUp: true)
            return try Trainer(
                transformer: configuration, text: text, optimizer: .adamW(), schedule: LearningRateSchedule(peak: 0.01),
                options: options)
        }

        /// A checkpoint of a run of a few steps from random weights.
        func checkpoint(_ trainer: Trainer, seed: UInt64) throws -> CairnReader {
            var random = PhiloxGenerator(key: seed)
            var weights: [String: Tensor] = [:]
            for (name, tensor) in trainer.parameters {
                let values = (0..<tensor.shape.elementCount).map { _ in Float(random.normal()) * 0.4 }
                weights[name] = try Tensor(values, tensor.shape)
            }
            try trainer.replaceParameters(weights)
            try trainer.train(steps: 2)
            let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
            try store.save(trainer.trainingState, step: 2)
            return try store.open(step: 2)
        }
    }

    /// The losses of single examples.
    private static func losses(_ trainer: Trainer) -> (any CheckpointReader) throws -> [Double] {
        { reader in
            var weights: [String: Tensor] = [:]
            for (name, _) in trainer.parameters { weights[name] = try reader.tensor(name) }
            return try (0..<6).map { try trainer.evaluate(weights: weights, examples: $0..<$0 + 1).loss }
        }
    }

    @Test(arguments: Model.all) func theTrainersModelsComputeTheSameInAnyOrder(model: Model) throws {
        let trainer = try model.trainer()
        let checkpoint = try model.checkpoint(trainer, seed: 5)
        let spec = try PermutationSpec.trainer(of: checkpoint)
        try spec.includingState(in: checkpoint).requireEveryTensor(in: checkpoint)
        var generator = SeededGenerator(seed: 6)
        let deviations = try spec.check(checkpoint, generator: &generator, evaluating: Self.losses(trainer))
        #expect(deviations.isEmpty, "\(deviations)")
        // All weights but those of edges that cannot move take part.
        let named = Set(spec.axes.keys)
        let missing = trainer.parameters.map(\.name).filter { !named.contains($0) }
        #expect(model.isPerceptron ? missing == ["model.layers.3.bias"] : missing.isEmpty, "\(missing)")
    }

    /// The check above would find a part that is missing.
    @Test(arguments: Model.all) func everyPartOfThePresetsMatters(model: Model) throws {
        let trainer = try model.trainer()
        let checkpoint = try model.checkpoint(trainer, seed: 7)
        let spec = try PermutationSpec.trainer(of: checkpoint)
        for name in spec.axes.keys.sorted() {
            var wrong = spec
            wrong.axes[name] = nil
            // What is said of one name of a tensor holds for all.
            for tensor in checkpoint.tensors where tensor.tiedTo == name { wrong.axes[tensor.name] = nil }
            if let target = try checkpoint.description(of: name).tiedTo { wrong.axes[target] = nil }
            var generator = SeededGenerator(seed: 8)
            let deviations = try wrong.check(checkpoint, generator: &generator, evaluating: Self.losses(trainer))
            // A key's bias adds the same to all scores of a query; with learned orders it cancels out.
            let isVoid = name.hasSuffix("attention.key.bias")
            #expect(!deviations.isEmpty || isVoid, "\(name)")
        }
    }

    @Test(arguments: Model.all) func plantedOrdersOfTheTrainersModelsAreFound(model: Model) throws {
        let trainer = try model.trainer()
        let checkpoint = try model.checkpoint(trainer, seed: 9)
        let spec = try PermutationSpec.trainer(of: checkpoint, includesResidual: false)
        var generator = SeededGenerator(seed: 10)
        let whole = spec.includingState(in: checkpoint)
        let slots = model.isPerceptron ? 3 : 4
        // A head that is the embedding has no moments of its own.
        let tied = spec.axes.keys.count { name in checkpoint.tensors.contains { $0.name == name && $0.tiedTo != nil } }
        #expect(whole.axes.count == slots * (spec.axes.count - tied) + tied)
        try whole.requireEveryTensor(in: checkpoint)
        #expect(whole.unnamedCompanions(in: checkpoint).isEmpty)
        #expect(!spec.unnamedCompanions(in: checkpoint).isEmpty)
        let planted = try UnitPermutations(randomFor: spec, in: checkpoint, using: &generator)
        let moved = try PermutedReader(checkpoint, planted, by: whole)
        let found = try WeightMatching(spec).match(moved, to: checkpoint, using: &generator)
        #expect(found.isSettled)
        let back = try PermutedReader(moved, found.permutations, by: whole)
        for tensor in checkpoint.tensors {
            #expect(try back.tensor(tensor.name) == checkpoint.tensor(tensor.name), "\(tensor.name)")
        }
    }

    /// The orders of a run's units do not matter to what it learns: the moments have only to move along.
    @Test func aRearrangedStateTrainsOnToTheRearrangedResult() throws {
        let model = Model.all[0]
        let trainer = try model.trainer()
        let checkpoint = try model.checkpoint(trainer, seed: 11)
        let spec = try PermutationSpec.trainer(of: checkpoint)
        var generator = SeededGenerator(seed: 12)
        let planted = try UnitPermutations(randomFor: spec, in: checkpoint, using: &generator)
        let whole = spec.includingState(in: checkpoint)
        func losses(_ reader: any CheckpointReader) throws -> [Double] {
            let other = try model.trainer()
            try other.restore(TrainingState(reading: reader))
            try other.train(steps: 12)
            return Array(other.lossHistory.suffix(12))
        }
        let expected = try losses(checkpoint)
        func distance(_ spec: PermutationSpec) throws -> Double {
            try zip(expected, losses(PermutedReader(checkpoint, planted, by: spec))).map { abs($0 - $1) }.max() ?? 0
        }
        let (along, left) = (try distance(whole), try distance(spec))
        #expect(along < 1e-3, "\(along)")
        #expect(left > 10 * along && left > 1e-2, "\(left), \(along)")
    }

    @Test func whatIsNoModelOfTheTrainerIsSaid() throws {
        let trainer = try Model.all[1].trainer()
        let checkpoint = try Model.all[1].checkpoint(trainer, seed: 13)
        // The value `model`, in which the number of heads is, is away.
        let nameless = try SelectedReader(checkpoint, include: ["model.*"])
        func code(_ body: () throws -> PermutationSpec) throws -> CairnError.Code {
            try #require(throws: CairnError.self) { _ = try body() }.code
        }
        #expect(try code { try .trainer(of: nameless) } == .invalidArgument)
        #expect(try PermutationSpec.trainer(of: nameless, headCount: 4) == PermutationSpec.trainer(of: checkpoint))
        #expect(try code { try .trainer(of: nameless, headCount: 5) } == .invalidArgument)
        #expect(try code { try .trainer(of: nameless, headCount: 0) } == .invalidArgument)
        let other = try SelectedReader(checkpoint, include: ["optimizer.*"])
        #expect(try code { try .trainer(of: other) } == .unsupported)
    }

    @Test func copiesOfOneExpertMoveApart() throws {
        // Experts that are one tensor stay so unless what lies within them goes different ways.
        let trainer = try Model.all[4].trainer()
        let checkpoint = try Model.all[4].checkpoint(trainer, seed: 14)
        var state = TrainingState()
        for tensor in checkpoint.tensors where tensor.name.hasPrefix("model.") && tensor.tiedTo == nil {
            state.set(try checkpoint.tensor(tensor.name), for: tensor.name)
        }
        for name in state.tensors.map(\.name) where name.contains(".experts.2.") {
            let copy = name.split(separator: ".", omittingEmptySubsequences: false).map { $0 == "2" ? "0" : String($0) }
            state.tie(name, to: copy.joined(separator: "."))
        }
        state.set(try #require(checkpoint.values.first { $0.name == "model" }).value, for: "model")
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(state, step: 1)
        let tied = try store.open(step: 1)
        #expect(tied.tensors.contains { $0.name.contains(".experts.2.") && $0.tiedTo != nil })
        let spec = try PermutationSpec.trainer(of: tied)
        var generator = SeededGenerator(seed: 15)
        let deviations = try spec.check(tied, generator: &generator, evaluating: Self.losses(trainer))
        #expect(deviations.isEmpty, "\(deviations)")
        let whole = try PermutedReader(
            tied, UnitPermutations(["residual": Array((0..<24).reversed())]), by: spec)
        #expect(whole.tensors.filter { $0.tiedTo != nil }.count == tied.tensors.filter { $0.tiedTo != nil }.count)
    }
}
