import Cairn
import CairnCheckpoint
import CairnTrain

/// A run from where it starts to where it stops, whatever the number of ranks.
struct RunPlan: Sendable {
    /// What a run continues from.
    enum Start: Sendable {
        /// Nothing: the folder must hold no checkpoint.
        case fresh
        /// The newest usable checkpoint of the run's own folder, or nothing if there is none.
        case newest
        /// That of another run's folder.
        case newestOf(String)
    }

    var options: RunOptions
    /// The store, and the losses beside it.
    var folder: String
    var start = Start.fresh
    var saveEvery = SaveInterval.steps(50)
    var keepLast = 3
    /// Whether checkpoints refer to earlier ones for what has not changed.
    var reusesUnchanged = false
    /// Every how many steps the weights are evaluated on the validation data, if they are.
    var evaluateEvery: Int?
    /// How many of the latest weights are averaged to be evaluated too, and how many steps apart.
    var latest: (count: Int, spacing: Int)?
    /// Whether checkpoints tell what the model makes of some sequences.
    var hasFingerprint = false
    /// Leaves the optimizer's state out of a resume.
    var withoutOptimizer = false
    /// Ends the run here, as an interruption would; schedules go by the steps of the options.
    var stopAfter: Int?
    /// Waits for every save.
    var hasBlockingSaves = false
    /// The most megabytes that snapshots may take beside training; `nil` for no limit.
    var snapshotMegabytes: Int?
    /// The keeper that gets snapshots too, if there is one.
    var keeper: RunKeeper?
    /// How many parity files protect each checkpoint; 0 for none.
    var parity = 0
    /// Whether what parity rebuilds of a checkpoint is written to its store too.
    var writesBack = false
    /// The blocks that are lost on the way, and what takes their place.
    var stageLosses = StageLosses()
    /// Keeps a save half-written for ever.
    var hold: SaveHold?
    /// Where lines for people go.
    var note: @Sendable (String) -> Void = { say($0) }

    var store: CheckpointStore { CheckpointStore(path: folder) }

    /// The last step.
    var end: Int { min(options.steps, stopAfter ?? .max) }

    /// The store that the run continues from, if there is something in it; `nil` for one that starts anew.
    var source: CheckpointStore? {
        switch start {
        case .newestOf(let folder): CheckpointStore(path: folder)
        case .newest: store
        case .fresh: nil
        }
    }

    /// - Throws: ``CairnError/Code/alreadyExists`` when a fresh run would mix its checkpoints with another's.
    func requireRoom() throws(CairnError) {
        guard case .fresh = start else { return }
        guard try store.steps().isEmpty else {
            throw CairnError(
                .alreadyExists, "the folder holds checkpoints already",
                .init(file: folder, advice: "continue with --resume, or choose another --out"))
        }
    }

    /// Says that nothing was found to continue from.
    ///
    /// - Throws: ``CairnError/Code/notFound`` where another run was named.
    func noteNothing() throws(CairnError) {
        switch start {
        case .fresh: break
        case .newest: note("no checkpoint yet, starting from step 0")
        case .newestOf(let folder): throw CheckpointStore(path: folder).noneUsable([])
        }
    }

    /// Compares what the model computes with what it did when it was saved, where that is known.
    ///
    /// - Parameter fingerprint: A collective call on many ranks: called only if there is something to compare with.
    /// - Throws: ``CairnError/Code/mismatch`` when it computes something else.
    func checkFingerprint(_ values: [NamedValue], _ fingerprint: () throws -> Fingerprint) throws {
        guard let stored = values.first(where: { $0.name == "fingerprint" })?.value else { return }
        let difference = try fingerprint().difference(from: Fingerprint(stored))
        guard difference <= Fingerprint.tolerance else {
            throw CairnError(
                .mismatch, "the loaded model computes something else than when it was saved",
                .init(
                    expected: "losses of some sequences within \(Fingerprint.tolerance)", found: "\(difference) off",
                    advice: "compare the checkpoint with its parent: cairn-train check"))
        }
        note("the loaded model computes what it did: losses of some sequences differ by \(scientific(difference))")
    }

    /// No other process writes to this run, so what a killed save left behind can go at once.
    func removeDebris() throws {
        guard case .newest = start else { return }
        let debris = try store.prune(RetentionPolicy(), debrisAge: 0).debris
        if !debris.isEmpty {
            let steps = Set(debris.map { String($0.prefix { $0 != "/" }) }).sorted().joined(separator: ", ")
            note("removed the debris of a save that never ended: \(debris.count) files of \(steps)")
        }
    }

    func noteEvaluation(_ step: Int, _ losses: [(name: String, loss: Double)]) {
        note("step \(step)  " + losses.map { "\($0.name) \(decimal($0.loss))" }.joined(separator: "  "))
    }

    func noteStep(_ step: Int, _ report: Trainer.StepReport) {
        guard step % 10 == 0 || step == end else { return }
        let balance = report.expertBalance.map { "  balance of experts \(decimal($0))" } ?? ""
        note("step \(step)  loss \(decimal(report.loss))" + balance)
    }

    /// Says that the run ends because it was asked to.
    func noteTermination(_ step: Int) { note("asked to end: stopping after step \(step), continue with --resume") }

    /// - Parameters:
    ///   - metrics: What is kept with the checkpoint besides the loss.
    ///   - parent: What the run resumed from.
    func saveOptions(
        _ report: Trainer.StepReport, metrics: [(name: String, loss: Double)] = [], parent: Manifest?,
        source: CheckpointStore?
    ) -> SaveOptions {
        var options = SaveOptions()
        options.metrics = ["loss": report.loss]
        for metric in metrics { options.metrics[metric.name] = metric.loss }
        options.lineage = Lineage(
            operation: "training",
            parents: parent.map { [.init(step: $0.step, saveID: $0.saveID, source: source?.name)] } ?? [],
            details: stageLosses.details(upTo: report.step))
        options.replacing = true
        options.reusesUnchanged = reusesUnchanged
        return options
    }
}
