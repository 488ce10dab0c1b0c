import Cairn
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnReshard
import CairnSnapshot
import CairnTrain

/// A run on one rank, which computes on several threads.
struct SingleRun {
    var plan: RunPlan

    func run() throws {
        let began = ContinuousClock.now
        let trainer = try plan.options.makeTrainer()
        let store = plan.store
        let kept = try plan.keeperStore()
        var log = LossLog(folder: plan.folder)
        var parent: Manifest?
        let source = plan.source
        try plan.requireRoom()
        if let source, let restart = try plan.recovery(of: source, kept).load() {
            try trainer.restore(restart.state, withoutOptimizer: plan.withoutOptimizer)
            plan.noteRestart(restart.decisions, step: restart.step, tier: restart.tier)
            try plan.checkFingerprint(restart.state.values) { trainer.fingerprint() }
            try log.load(upTo: restart.step)
            parent = restart.manifest
        } else {
            try plan.noteNothing()
        }
        try plan.removeDebris()
        let signal = TerminationSignal.shared
        signal.watch()
        let saves = RunSaves(
            plan, SnapshotPipeline(store, pool: trainer.statePool, options: RunSaves.pipelineOptions(plan)),
            kept: kept.map { SnapshotPipeline($0, pool: trainer.statePool, options: RunKeeper.options(plan)) },
            from: trainer.stepCount, began: began, isFirst: true)
        var evaluation = try plan.evaluateEvery.map { every throws(CairnError) in
            try RunEvaluation(every: every, latest: plan.latest)
        }
        while trainer.stepCount < plan.end {
            try plan.stageLosses.lose(at: trainer.stepCount, trainer, store, plan.note)
            let report = try saves.step { try trainer.step() }
            log.append(report)
            plan.noteStep(trainer.stepCount, report)
            saves.noteReports()
            let losses = try evaluation?.evaluate(trainer, end: plan.end)
            if let losses { plan.noteEvaluation(trainer.stepCount, losses) }
            if saves.isKept(after: trainer.stepCount) {
                let options = plan.saveOptions(report, metrics: losses ?? [], parent: parent, source: source)
                saves.keep(step: trainer.stepCount, options: options, log: log) { pipeline, options in
                    pipeline.snapshot(
                        savedState(trainer), step: trainer.stepCount, options: options, order: trainer.updateOrder)
                }
            }
            let isLast = signal.isRequested
            guard isLast || saves.isDue(after: trainer.stepCount) else { continue }
            var options = plan.saveOptions(report, metrics: losses ?? [], parent: parent, source: source)
            let state = savedState(trainer)
            if let hold = plan.hold, hold.step == trainer.stepCount {
                options.progress = hold.progress(byteCount: state.byteCount)
            }
            saves.save(step: trainer.stepCount, options: options, log: log) { pipeline, options in
                pipeline.snapshot(state, step: trainer.stepCount, options: options, order: trainer.updateOrder)
            }
            guard !isLast else {
                plan.noteTermination(trainer.stepCount)
                break
            }
        }
        try saves.finish(lastStep: trainer.stepCount)
    }

    private func savedState(_ trainer: Trainer) -> TrainingState {
        var state = trainer.trainingState
        if plan.hasFingerprint { state.set(trainer.fingerprint().value, for: "fingerprint") }
        return state
    }
}

/// How well the weights of a run do on the validation data, and averages of them.
struct RunEvaluation {
    /// Every how many steps.
    let every: Int
    private var latest: LatestWeights?

    /// - Parameter latest: how many of the latest weights are averaged, and how many steps apart.
    init(every: Int, latest: (count: Int, spacing: Int)?) throws(CairnError) {
        self.every = every
        if let latest { self.latest = try LatestWeights(count: latest.count, spacing: latest.spacing) }
    }

    /// Keeps what later averages need, and evaluates when it is time.
    ///
    /// - Returns: Losses by the names under which checkpoints keep them; `nil` when it is not time.
    mutating func evaluate(_ trainer: Trainer, end: Int) throws -> [(name: String, loss: Double)]? {
        latest?.note(trainer.stepCount, trainer.parameters)
        guard trainer.stepCount % every == 0 || trainer.stepCount == end else { return nil }
        var losses = [(name: "validation", loss: trainer.evaluate().loss)]
        if let average = try trainer.averagedParameters() {
            losses.append(("validation_average", try trainer.evaluate(weights: average).loss))
        }
        if let mean = try latest?.mean() {
            losses.append(("validation_latest", try trainer.evaluate(weights: mean).loss))
        }
        return losses
    }
}

/// A run on many ranks: each trains its part, and all save one checkpoint together.
///
/// The checkpoint is that of a run on one rank: either continues from the other's, and from one of any other mesh.
struct ParallelRun: Sendable {
    var plan: RunPlan
    var parallel: ParallelConfiguration
    var text: TextDataset

    /// A collective call.
    func run(_ communicator: any Communicator) throws {
        let began = ContinuousClock.now
        let trainer = try plan.options.makeTrainer(text, parallel, communicator)
        let isFirst = communicator.rank == 0
        let kept = try plan.keeperStore(communicator)
        let source = plan.source
        let parent = try restore(trainer, kept, communicator)
        let shared = try ShardedStore(plan.store, over: communicator)
        var log = LossLog(folder: plan.folder)
        if isFirst, parent != nil { try log.load(upTo: trainer.stepCount) }
        if isFirst { try plan.removeDebris() }
        let signal = TerminationSignal.shared
        signal.watch()
        let saves = RunSaves(
            plan, SnapshotPipeline(shared, pool: trainer.pool, options: RunSaves.pipelineOptions(plan)),
            kept: try kept.map { store throws(CairnError) in
                SnapshotPipeline(
                    try ShardedStore(store, over: communicator), pool: trainer.pool, options: RunKeeper.options(plan))
            }, from: trainer.stepCount, began: began, isFirst: isFirst)
        while trainer.stepCount < plan.end {
            let report = try saves.step { try trainer.step() }
            if isFirst {
                log.append(report)
                plan.noteStep(trainer.stepCount, report)
            }
            saves.noteReports()
            var losses: [(name: String, loss: Double)] = []
            if let every = plan.evaluateEvery, trainer.stepCount % every == 0 || trainer.stepCount == plan.end {
                losses = [("validation", try trainer.evaluate().loss)]
                if isFirst { plan.noteEvaluation(trainer.stepCount, losses) }
            }
            if saves.isKept(after: trainer.stepCount) {
                let state = try savedState(trainer)
                let options = plan.saveOptions(report, metrics: losses, parent: parent, source: source)
                saves.keep(step: trainer.stepCount, options: options, log: isFirst ? log : nil) { pipeline, options in
                    pipeline.snapshot(state, step: trainer.stepCount, options: options, order: trainer.updateOrder)
                }
            }
            // The signal may reach some ranks a step later than others, and each measures other times.
            let (isLast, isDue) = try agree(
                isLast: signal.isRequested, isDue: isFirst && saves.isDue(after: trainer.stepCount), communicator)
            guard isLast || isDue else { continue }
            let state = try savedState(trainer)
            var options = plan.saveOptions(report, metrics: losses, parent: parent, source: source)
            if let hold = plan.hold, hold.step == trainer.stepCount, hold.rank == communicator.rank {
                options.progress = hold.progress(
                    byteCount: try WritePlan(state.tensors).byteCount(ofRank: communicator.rank))
            }
            saves.save(step: trainer.stepCount, options: options, log: isFirst ? log : nil) { pipeline, options in
                pipeline.snapshot(state, step: trainer.stepCount, options: options, order: trainer.updateOrder)
            }
            guard !isLast else {
                if isFirst { plan.noteTermination(trainer.stepCount) }
                break
            }
        }
        try saves.finish(lastStep: trainer.stepCount)
    }

    /// This rank's part of what is saved. A collective call.
    private func savedState(_ trainer: ParallelTrainer) throws -> ShardedState {
        var state = try trainer.shardedState
        if plan.hasFingerprint {
            state.values.append(NamedValue(name: "fingerprint", value: try trainer.fingerprint().value))
        }
        return state
    }

    /// Whether any rank says so.
    private func agree(
        isLast: Bool, isDue: Bool, _ communicator: any Communicator
    ) throws(CairnError) -> (isLast: Bool, isDue: Bool) {
        var sums = [isLast ? 1.0 : 0, isDue ? 1 : 0]
        try communicator.allReduceSum(&sums)
        return (sums[0] > 0, sums[1] > 0)
    }

    /// - Returns: What the run continues from; `nil` where it starts anew.
    private func restore(
        _ trainer: ParallelTrainer, _ kept: CheckpointStore?, _ communicator: any Communicator
    ) throws -> Manifest? {
        let isFirst = communicator.rank == 0
        var quiet = plan
        if !isFirst { quiet.note = { _ in } }
        guard let source = plan.source else {
            // One rank looks, and the others wait: else they might see what it saves.
            if isFirst { try plan.requireRoom() }
            try communicator.barrier()
            return nil
        }
        let wanted = trainer.placedTensors.filter { !plan.withoutOptimizer || !$0.name.hasPrefix("optimizer.") }
        guard let restart = try plan.recovery(of: source, kept).load(wanted, over: communicator) else {
            try quiet.noteNothing()
            return nil
        }
        try trainer.restore(restart.state, withoutOptimizer: plan.withoutOptimizer)
        quiet.noteRestart(restart.decisions, step: restart.step, tier: restart.tier)
        try quiet.checkFingerprint(restart.state.values) { try trainer.fingerprint() }
        return restart.manifest
    }
}
