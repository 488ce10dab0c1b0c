import Cairn
import CairnTrain

/// A run on one rank, which computes on several threads.
struct SingleRun {
    var plan: RunPlan

    func run() throws {
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
            try log.load(upTo: loaded.step)
            parent = manifest
        }
        try plan.removeDebris()
        while trainer.stepCount < plan.end {
            let report = try trainer.step()
            log.append(report)
            plan.noteStep(trainer.stepCount, report)
            guard plan.saves(after: trainer.stepCount) else { continue }
            try log.write()
            let state = trainer.trainingState
            var options = plan.saveOptions(report, parent: parent, source: source)
            if let hold = plan.hold, hold.step == trainer.stepCount {
                options.progress = hold.progress(byteCount: state.byteCount)
            }
            try store.save(state, step: trainer.stepCount, options: options)
            try plan.noteSave(trainer.stepCount)
        }
    }
}
