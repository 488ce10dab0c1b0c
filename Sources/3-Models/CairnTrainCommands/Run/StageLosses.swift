import ArgumentParser
import Cairn
import CairnCheckpoint
import CairnMerge
import CairnTrain

/// Blocks of a transformer that a run loses on the way, as if the pipeline stage that had them died, and what takes their place.
struct StageLosses: Sendable {
    /// A block, and how many steps have been taken when it is lost.
    struct Loss: Sendable, Hashable {
        var block: Int
        var step: Int
    }

    /// What takes the place of a lost block.
    enum Replacement: String, ExpressibleByArgument, CaseIterable {
        /// The mean of the blocks beside it.
        case neighbours
        /// The block before it; of the first one that behind.
        case copy
        /// Random numbers.
        case `init`
        /// What the newest checkpoint of the run has.
        case older
    }

    var losses: [Loss] = []
    var replacement = Replacement.neighbours
    var weights = NeighbourWeights.gradientNorms
    /// What the learning rate of a replaced block is multiplied by from then on.
    var rateFactor = 1.0
    /// Chooses random numbers.
    var seed: UInt64 = 0

    /// What checkpoints behind a loss say of it.
    ///
    /// - Parameter step: The last step that was taken.
    func details(upTo step: Int) -> [String: Value] {
        let past = losses.filter { $0.step <= step }.sorted { ($0.step, $0.block) < ($1.step, $1.block) }
        guard !past.isEmpty else { return [:] }
        return [
            "lost_stages": .list(past.map { .string("\($0.block)@\($0.step)") }), "replaced_by": .string(replacement.rawValue),
        ]
    }

    /// Loses the blocks that are to be lost now.
    ///
    /// - Parameter store: Where older checkpoints are.
    func lose(at step: Int, _ trainer: Trainer, _ store: CheckpointStore, _ note: (String) -> Void) throws {
        for loss in losses where loss.step == step {
            var older: (any CheckpointReader)?
            if replacement == .older {
                guard let newest = try store.newestUsable().step else {
                    throw CairnError(
                        .notFound, "a block is lost before there is a checkpoint to take it from",
                        .init(file: store.name, advice: "lose it later, or replace it by something else"))
                }
                older = try store.open(step: newest)
            }
            let recovered = try replace(loss.block, of: trainer, older: older)
            note(
                "step \(step): lost block \(loss.block), replaced \(recovered.approximate.count) tensors, \(replacement.rawValue)"
            )
        }
    }

    /// Replaces a block of a trainer as it is, and lets its optimizer begin anew.
    ///
    /// - Parameter older: A checkpoint of the run, for ``Replacement/older``.
    @discardableResult
    func replace(_ block: Int, of trainer: Trainer, older: (any CheckpointReader)? = nil) throws -> RecoveredCheckpoint {
        let memory = CheckpointStore(storage: MemoryStorage(), name: "the run")
        try memory.save(trainer.trainingState, step: trainer.stepCount)
        let reader = try memory.open(step: trainer.stepCount)
        let names = "model.layers.\(block)."
        let recovery: LossRecovery =
            switch replacement {
            case .neighbours: .neighbours(weights)
            case .copy: .copy(layer: block > 0 ? block - 1 : 1)
            case .`init`: .initial
            case .older: older.map { .older($0) } ?? .neighbours(weights)
            }
        let recovered = try RecoveredCheckpoint(
            reader, lost: LostTensors([names + "*"], of: reader), from: recovery,
            options: RecoveryOptions(seed: seed &+ UInt64(trainer.stepCount)))
        try trainer.restore(TrainingState(reading: recovered))
        trainer.setRateFactor(rateFactor) { $0.hasPrefix(names) }
        return recovered
    }
}

/// Which blocks a run loses on command.
struct StageLossOptions: ParsableArguments {
    @Option(
        name: .customLong("lose-stage"),
        help: ArgumentHelp(
            "Lose a block, counted from 0, after so many steps, and go on with what --replace-stage says; may be given several "
                + "times. On one rank.", valueName: "block@step"))
    var lost: [StageLossArgument] = []
    @Option(
        help: "What takes its place: neighbours (CheckFree), copy (of the block before), init, older (the newest checkpoint's).")
    var replaceStage = StageLosses.Replacement.neighbours
    @Option(help: "How neighbours are weighed: grad, grad-squared or equal.")
    var stageWeights = "grad"
    @Option(help: "What the learning rate of a replaced block is multiplied by; CheckFree's authors take 1.1 and 1.2.")
    var stageRate = 1.0

    func validate() throws {
        guard NeighbourWeights(rawValue: stageWeights) != nil else {
            let names = NeighbourWeights.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--stage-weights is one of \(names) (got \(stageWeights))")
        }
        guard stageRate.isFinite, stageRate > 0 else { throw ValidationError("--stage-rate must be above 0 (got \(stageRate))") }
    }

    /// What is to be lost of a run, checked against the model.
    func losses(of options: RunOptions) throws -> StageLosses {
        if !lost.isEmpty, options.model != .transformer { throw ValidationError("only a transformer has blocks to lose") }
        for one in lost where one.loss.block >= options.layers || options.layers < 2 {
            throw ValidationError(
                "--lose-stage: there is no block \(one.loss.block) with others beside it (\(options.layers) layers)")
        }
        return StageLosses(
            losses: lost.map(\.loss), replacement: replaceStage,
            weights: NeighbourWeights(rawValue: stageWeights) ?? .gradientNorms,
            rateFactor: stageRate, seed: options.seed)
    }
}

/// `2@120`: block 2 after step 120.
struct StageLossArgument: ExpressibleByArgument, Sendable {
    let loss: StageLosses.Loss

    init?(argument: String) {
        let parts = argument.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, let block = Int(parts[0]), let step = Int(parts[1]), block >= 0, step >= 0 else { return nil }
        loss = StageLosses.Loss(block: block, step: step)
    }
}
