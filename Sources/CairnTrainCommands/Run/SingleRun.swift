import Cairn
import CairnSnapshot
import CairnTrain

/// A run on one rank, which computes on several threads.
struct SingleRun {
    var plan: RunPlan

    func run() throws {
        let began = ContinuousClock.now
        let trainer = try plan.options.makeTrainer()
        let store = plan.store
        let source = try plan.source()
        var log = LossLog(folder: plan.folder)
        var parent: Manifest?
        if let source {
            let loaded = try source.loadLatest()
            try trainer.restore(loaded.state, withoutOptimizer: plan.withoutOptimizer)
            let manifest = try source.open(step: loaded.step).manifest
            plan.noteResume(manifest, of: source, skipped: loaded.skipped)
            try plan.checkFingerprint(loaded.state.values) { trainer.fingerprint() }
            try log.load(upTo: loaded.step)
            parent = manifest
        }
        try plan.removeDebris()
        let signal = TerminationSignal.shared
        signal.watch()
        let saves = RunSaves(
            plan, SnapshotPipeline(store, pool: trainer.statePool, options: RunSaves.pipelineOptions(plan)),
            from: trainer.stepCount, began: began, isFirst: true)
        var evaluation = try plan.evaluateEvery.map { every throws(CairnError) in
            try RunEvaluation(every: every, latest: plan.latest)
        }
        while trainer.stepCount < plan.end {
            let report = try saves.step { try trainer.step() }
            log.append(report)
            plan.noteStep(trainer.stepCount, report)
            saves.noteReports()
            let losses = try evaluation?.evaluate(trainer, end: plan.end)
            if let losses { plan.noteEvaluation(trainer.stepCount, losses) }
            let isLast = signal.isRequested
            guard isLast || saves.isDue(after: trainer.stepCount) else { continue }
            var options = plan.saveOptions(report, metrics: losses ?? [], parent: parent, source: source)
            var state = trainer.trainingState
            if plan.hasFingerprint { state.set(trainer.fingerprint().value, for: "fingerprint") }
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
}
