import Cairn
import CairnCheckpoint
import CairnTesting
import CairnTrain
import CairnTrainCommands
import CairnUniversal
import Testing

/// Dense checkpoints that become ones with experts.
@Suite struct UpcyclingTests {
    private static let text = Array(
        String(
            repeating: "In the beginning God created the heaven and the earth. And the earth was without form. ",
            count: 20
        ).utf8)

    /// What is trained.
    struct Case: Sendable, CustomTestStringConvertible {
        var optimizer = OptimizerConfiguration.adamW()
        var precision = WeightPrecision.float32
        var isSwiGLU = false
        var isTied = true
        var hasBiases = false

        var testDescription: String { "\(optimizer.kind) \(precision) \(isSwiGLU ? "swiglu" : "gelu") \(isTied)" }

        func trainer(_ experts: ExpertConfiguration? = nil) throws -> Trainer {
            let text = try TextDataset(text: UpcyclingTests.text, context: 16)
            var model = TransformerConfiguration(
                vocabularySize: text.tokenizer.vocabularySize, context: 16, layers: 4, heads: 2, width: 16)
            model.feedForward = isSwiGLU ? .swiglu : .gelu
            model.tiedEmbeddings = isTied
            model.biases = hasBiases
            model.experts = experts
            var options = TrainingOptions()
            options.batchSize = 8
            options.precision = precision
            return try Trainer(
                transformer: model, text: text, optimizer: optimizer, schedule: LearningRateSchedule(peak: 0.01),
                options: options)
        }

        /// A dense checkpoint after some steps, in a store.
        func dense(_ folder: String) throws -> (trainer: Trainer, reader: CairnReader) {
            let dense = try trainer()
            try dense.train(steps: 12)
            let store = CheckpointStore(path: folder)
            try store.save(dense.trainingState, step: 12)
            return (dense, try store.open(step: 12))
        }
    }

    @Test(
        arguments: [
            Case(), Case(optimizer: .muon(), isSwiGLU: true, isTied: false),
            Case(precision: .bfloat16WithMaster, isSwiGLU: true), Case(isTied: false, hasBiases: true),
        ], Upcycling.OptimizerState.allCases)
    func theLossAtTheStartIsTheParents(_ run: Case, optimizer: Upcycling.OptimizerState) throws {
        let folder = try TemporaryDirectory()
        let (dense, reader) = try run.dense(folder.path + "/dense")
        for (experts, chosen, granularity) in [(4, 2, 1), (3, 1, 1), (8, 4, 2), (8, 8, 4)] {
            if granularity > 1, run.hasBiases { continue }
            let upcycled = try UpcycledCheckpoint(
                reader,
                Upcycling(experts: experts, chosen: chosen, granularity: granularity, optimizer: optimizer, seed: 5))
            let sparse = try run.trainer(upcycled.model.experts)
            try sparse.restore(TrainingState(reading: upcycled.reader))
            let difference = abs(sparse.evaluate().loss - dense.evaluate().loss)
            #expect(difference < 1e-5, "\(experts) experts of \(granularity): \(difference)")
            #expect(sparse.stepCount == 12 && sparse.loader == dense.loader)
            // It trains on.
            try sparse.train(steps: 2)
        }
    }

    @Test func whatBecomesOfTheOptimizersStateIsChosen() throws {
        let folder = try TemporaryDirectory()
        let (dense, reader) = try Case().dense(folder.path + "/dense")
        let old = dense.trainingState
        let expert = "optimizer.exp_avg.model.layers.1.mlp.experts.2.up.weight"
        func state(_ optimizer: Upcycling.OptimizerState) throws -> (TrainingState, UpcycledCheckpoint) {
            let upcycled = try UpcycledCheckpoint(reader, Upcycling(experts: 4, optimizer: optimizer))
            return (try TrainingState(reading: upcycled.reader), upcycled)
        }
        func isZero(_ name: String, in state: TrainingState) throws -> Bool {
            try state.tensor(name).elements(as: Float.self).allSatisfy { $0 == 0 }
        }
        let other = "optimizer.exp_avg.model.layers.0.mlp.up.weight"
        let (expanded, everything) = try state(.expand)
        #expect(try expanded.tensor(expert) == old.tensor("optimizer.exp_avg.model.layers.1.mlp.up.weight"))
        #expect(everything.dropped.isEmpty)
        #expect(everything.initialised.count == 2 * 3)
        let (carried, most) = try state(.carry)
        #expect(try isZero(expert, in: carried))
        #expect(try carried.tensor(other) == old.tensor(other))
        #expect(most.dropped.count == 2 * 2 * 2)
        let (fresh, least) = try state(.drop)
        #expect(try isZero(other, in: fresh))
        #expect(try fresh.value("optimizer").step == 0)
        #expect(try expanded.value("optimizer").step == 12)
        #expect(least.dropped.count == old.tensors.filter { $0.name.hasPrefix("optimizer.") }.count)
        // Whatever comes in is told of once.
        for upcycled in [everything, most, least] {
            #expect(
                Set(upcycled.copied.map(\.from) + upcycled.dropped).count
                    == upcycled.copied.count + upcycled.dropped.count)
            #expect(upcycled.copied.count + upcycled.dropped.count == reader.tensors.count)
            #expect(upcycled.copied.flatMap(\.to).count + upcycled.initialised.count == upcycled.reader.tensors.count)
        }
        let rules = try Upcycling(experts: 4).rules(from: .init(old.value("model")))
        #expect(try UniversalSpec(yaml: everything.rules) == rules)
    }

    /// Sixteen times the experts, and hardly more bytes until they train.
    @Test func expertsAreStoredOnceUntilTheyTrain() throws {
        let folder = try TemporaryDirectory()
        let (dense, reader) = try Case().dense(folder.path + "/dense")
        let upcycled = try UpcycledCheckpoint(reader, Upcycling(experts: 16))
        let store = CheckpointStore(path: folder.path + "/sparse")
        _ = try copyCheckpoint(from: upcycled.reader, to: CairnWriter(store: store, step: 12))
        let stored = try store.open(step: 12).tensors.filter { $0.tiedTo == nil }.reduce(0) { $0 + $1.byteCount }
        let routers = upcycled.initialised.count * 16 * 16 * 4
        #expect(stored <= dense.trainingState.byteCount + routers)
        let sparse = try Case().trainer(upcycled.model.experts)
        try sparse.restore(store.load(step: 12))
        try sparse.train(steps: 1)
        try store.save(sparse.trainingState, step: 13)
        #expect(sparse.trainingState.byteCount > 3 * dense.trainingState.byteCount)
        let again = try Case().trainer(upcycled.model.experts)
        try again.restore(store.load(step: 13))
        #expect(again.trainingState == sparse.trainingState)
    }

    @Test func whatCannotComputeTheSameIsRefused() throws {
        let folder = try TemporaryDirectory()
        let (_, reader) = try Case().dense(folder.path + "/dense")
        for upcycling in [
            Upcycling(experts: 4, chosen: 5), Upcycling(experts: 6, chosen: 2, granularity: 4),
            Upcycling(experts: 8, chosen: 3, granularity: 2), Upcycling(experts: 4, every: 5),
        ] {
            let error = #expect(throws: CairnError.self) { try UpcycledCheckpoint(reader, upcycling) }
            #expect(error?.code == .invalidArgument)
        }
        let sparse = try UpcycledCheckpoint(reader, Upcycling(experts: 4)).reader
        #expect(throws: CairnError.self) { try UpcycledCheckpoint(sparse, Upcycling(experts: 4)) }
        // A state that lacks something is not filled up silently.
        let (_, biased) = try Case(hasBiases: true).dense(folder.path + "/biased")
        #expect(throws: CairnError.self) {
            try UpcycledCheckpoint(biased, Upcycling(experts: 8, chosen: 4, granularity: 2))
        }
    }

    @Test func theCommandMakesARunThatGoesOn() throws {
        let folder = try TemporaryDirectory()
        let model = [
            "--text", Repository.fixture("data/kjv.txt"), "--layers", "2", "--heads", "2", "--width", "16", "--context",
            "16", "--batch", "4", "--schedule", "constant",
        ]
        let (dense, sparse) = (folder.path + "/dense", folder.path + "/sparse")
        #expect(try Child(["run", "--out", dense, "--steps", "10"] + model).wait() == 0)
        let arguments = ["upcycle", dense + "@10", sparse, "--experts", "4"]
        #expect(try Child(arguments).wait() == 0)
        #expect(try Child(arguments).wait() != 0)
        let lineage = try CheckpointStore(path: sparse).open(step: 10).manifest.lineage
        #expect(lineage?.operation == "upcycling")
        #expect(lineage?.parents.first?.saveID == (try CheckpointStore(path: dense).open(step: 10).manifest.saveID))
        for (steps, layout) in [("15", []), ("20", ["--mesh", "ep=2"])] {
            let run = ["run", "--out", sparse, "--steps", steps, "--experts", "4", "--resume"] + layout
            #expect(try Child(run + model).wait() == 0)
        }
        #expect(try CheckpointStore(path: sparse).latest() == 20)
    }
}

extension Value {
    fileprivate var step: Int? {
        guard case .dictionary(let fields) = self, case .integer(let step)? = fields["step"] else { return nil }
        return Int(step)
    }
}
