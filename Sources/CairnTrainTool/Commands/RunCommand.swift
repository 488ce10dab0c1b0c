import ArgumentParser
import Cairn
import CairnTrain
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Trains, saves, resumes.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Trains a model; goes on from its last valid checkpoint with --resume.")

    @OptionGroup var options: RunOptions
    @OptionGroup var parallel: ParallelOptions
    @Option(help: "The run's folder: a checkpoint store and losses.csv.")
    var out: String
    @Option(help: "Steps between two checkpoints.")
    var saveEvery = 50
    @Option(help: "How many of the newest checkpoints to keep.")
    var keepLast = 3
    @Flag(help: "Go on from the newest valid checkpoint of --out, or start if there is none.")
    var resume = false
    @Option(help: "Start from the newest valid checkpoint of another run's store.")
    var resumeFrom: String?
    @Flag(help: "Leave the optimizer's state out of the resume, to see what that costs.")
    var withoutOptimizer = false
    @Option(help: ArgumentHelp("Hold the save of this step half-way, so that the process can be killed in it.", visibility: .hidden))
    var holdSaveOfStep: Int?

    func run() throws {
        if let parallel = try parallel.configuration() { return try run(parallel) }
        let trainer = try options.makeTrainer()
        let store = CheckpointStore(path: out)
        var log = LossLog(folder: out)
        let parent = try restore(trainer, store, &log)
        if parent == nil, try !store.steps().isEmpty {
            throw Self.occupied(out)
        }
        while trainer.stepCount < options.steps {
            let report = try trainer.step()
            log.append(report)
            if trainer.stepCount % 10 == 0 || trainer.stepCount == options.steps {
                say("step \(trainer.stepCount)  loss \(decimal(report.loss))")
            }
            if trainer.stepCount % saveEvery == 0 || trainer.stepCount == options.steps {
                try log.write()
                try save(trainer, store, report, parent)
            }
        }
    }

    /// The same on many ranks.
    private func run(_ parallel: ParallelConfiguration) throws {
        guard options.model == .transformer, holdSaveOfStep == nil else {
            throw ValidationError("only a transformer trains on many ranks")
        }
        let store = CheckpointStore(path: out)
        let source = resumeFrom.map { CheckpointStore(path: $0) } ?? store
        var start: CairnReader?
        var lineage = Lineage(operation: "training")
        if try resumeFrom != nil || resume && source.latest() != nil {
            let (reader, skipped) = try source.latestValid()
            for skipped in skipped { say("skipped step \(skipped.step): \(skipped.error)") }
            say("resuming from step \(reader.manifest.step) of \(source.name)")
            lineage = Self.lineage(reader.manifest, source)
            start = reader
        } else if resume {
            say("no checkpoint yet, starting from step 0")
        } else if try !store.steps().isEmpty {
            throw Self.occupied(out)
        }
        if resume, resumeFrom == nil { try removeDebris(store) }
        try ParallelRun(
            options: options, parallel: parallel, store: store, folder: out, saveEvery: saveEvery, keepLast: keepLast,
            start: start, withoutOptimizer: withoutOptimizer, lineage: lineage
        ).run()
    }

    /// Nobody else writes to this run, so what a killed save left behind can go at once.
    private func removeDebris(_ store: CheckpointStore) throws {
        let debris = try store.prune(RetentionPolicy(), debrisAge: 0).debris
        if !debris.isEmpty { say("removed the debris of a save that never ended: \(debris.joined(separator: ", "))") }
    }

    private static func lineage(_ parent: Manifest, _ source: CheckpointStore) -> Lineage {
        Lineage(
            operation: "training", parents: [.init(step: parent.step, saveID: parent.saveID, source: source.name)])
    }

    private static func occupied(_ folder: String) -> ValidationError {
        ValidationError("\(folder) holds checkpoints already: go on with --resume, or choose another --out")
    }

    /// - Returns: What the run goes on from.
    private func restore(_ trainer: Trainer, _ store: CheckpointStore, _ log: inout LossLog) throws -> Lineage? {
        guard resume || resumeFrom != nil else { return nil }
        let source = resumeFrom.map { CheckpointStore(path: $0) } ?? store
        if resumeFrom == nil, try source.latest() == nil {
            say("no checkpoint yet, starting from step 0")
            try removeDebris(source)
            return Lineage(operation: "training")
        }
        let loaded = try source.loadLatest()
        for skipped in loaded.skipped { say("skipped step \(skipped.step): \(skipped.error)") }
        try trainer.restore(loaded.state, withoutOptimizer: withoutOptimizer)
        try log.load(upTo: loaded.step)
        if resumeFrom == nil { try removeDebris(store) }
        say("resumed from step \(loaded.step) of \(source.name)" + (withoutOptimizer ? ", without the optimizer" : ""))
        return Self.lineage(try source.open(step: loaded.step).manifest, source)
    }

    private func save(
        _ trainer: Trainer, _ store: CheckpointStore, _ report: Trainer.StepReport, _ lineage: Lineage?
    ) throws {
        let step = trainer.stepCount
        let state = trainer.trainingState
        var options = SaveOptions()
        options.metrics = ["loss": report.loss]
        options.lineage = lineage ?? Lineage(operation: "training")
        options.replacing = true
        if step == holdSaveOfStep {
            let half = state.byteCount / 2
            let written = Atomic<Int>(0)
            options.progress = { count in
                guard written.add(count, ordering: .relaxed).newValue >= half else { return }
                say("holding the save of step \(step)")
                while true { sleep(60) }
            }
            try store.save(state, step: step, options: options)
        } else {
            try store.save(state, step: step, options: options)
        }
        say("saved step \(step)")
        _ = try store.prune(RetentionPolicy(keepLast: keepLast))
    }
}

/// Prints a line at once, also into a pipe.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}

/// A number with four decimals.
func decimal(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
    let scaled = Int((abs(value) * 10_000).rounded())
    let fraction = String(scaled % 10_000)
    return (value < 0 ? "-" : "") + "\(scaled / 10_000)." + String(repeating: "0", count: 4 - fraction.count) + fraction
}
