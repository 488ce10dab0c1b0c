import ArgumentParser
import Cairn
import CairnCheckpoint
import CairnTrain

/// Starts a run from another's checkpoint, under another schedule.
struct BranchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "branch",
        abstract: "Starts a run from a checkpoint of another one, with a schedule that decays, or continues, from there.",
        discussion: """
            Warm-up, stable, decay (WSD): train at a constant rate, and branch off a decay wherever a finished model \
            is wanted. With --constant a run continues at the peak from a decayed checkpoint (WSD-S). Everything else, \
            optimizer and data position too, is the parent's; the new checkpoint names it.

            EXAMPLES
              cairn-train branch runs/kjv@400 runs/decayed --decay-steps 40
              cairn-train run --resume --out runs/decayed --steps 440 …
              cairn-train branch runs/decayed@440 runs/on --constant
            """)

    enum Decay: String, ExpressibleByArgument, CaseIterable { case linear, inverse }

    @Argument(help: "The checkpoint: a run's folder, or RUN@STEP.")
    var source: String
    @Argument(help: "The folder of the new run.")
    var out: String
    @Option(help: "Decay the learning rate within so many steps from here.")
    var decaySteps: Int?
    @Option(help: "How it falls: linear, or inverse (its reciprocal rises in a straight line).")
    var decay = Decay.linear
    @Option(help: "Down to this fraction of the peak; by default what the schedule says.")
    var floor: Double?
    @Flag(help: "Continue at the peak.")
    var constant = false

    func validate() throws {
        guard (decaySteps != nil) != constant else { throw ValidationError("give either --decay-steps or --constant") }
        if let decaySteps, !(1...1 << 40).contains(decaySteps) {
            throw ValidationError("--decay-steps must be from 1 to \(1 << 40) (got \(decaySteps))")
        }
        if let floor, !(0...1).contains(floor) { throw ValidationError("--floor must be from 0 to 1 (got \(floor))") }
    }

    func run() throws {
        let parent = try StoreArgument(source).open()
        let step = parent.manifest.step
        var values = parent.values.byName
        var schedule = try LearningRateSchedule(values["schedule"])
        if let floor { schedule.floor = floor }
        schedule.shape =
            decaySteps.map {
                .warmupStableDecay(stableUntil: step, decaySteps: $0, decay: decay == .linear ? .linear : .inverse)
            } ?? .constant
        values["schedule"] = schedule.value
        var options = SaveOptions()
        options.metrics = parent.manifest.metrics
        options.lineage = Lineage(
            operation: "branching",
            parents: [.init(step: step, saveID: parent.manifest.saveID, source: StoreArgument(source).folder)])
        let store = try NewStore.open(out)
        let writer = try CairnWriter(store: store, step: step, options: options)
        _ = try copyCheckpoint(from: ExtendedReader(parent, values: values), to: writer)
        let change = decaySteps.map { "decays \(decay.rawValue)ly within \($0) steps" } ?? "continues at the peak"
        say("\(out)@\(step): \(StoreArgument(source).folder)@\(step), which \(change)")
    }
}
