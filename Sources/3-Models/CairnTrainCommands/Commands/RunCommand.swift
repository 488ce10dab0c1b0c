import ArgumentParser
import CairnCommunication
import CairnKeeper
import CairnTrain

/// Trains, saves, resumes.
struct RunCommand: LaunchedCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Trains a model; continues from its last valid checkpoint with --resume.")

    @OptionGroup var options: RunOptions
    @OptionGroup var parallel: ParallelOptions
    @OptionGroup var stageLosses: StageLossOptions
    @Option(help: "The run's folder: a checkpoint store and losses.csv.")
    var out: String
    @Option(help: "Steps between two checkpoints; auto follows the interval advisor, given --mtbf.")
    var saveEvery = SaveIntervalArgument.steps(50)
    @Option(
        help: ArgumentHelp(
            "The mean time between failures of the whole job, such as 15m, 6h or 30d.", valueName: "time"))
    var mtbf: TimeArgument?
    @Option(help: "How many of the newest checkpoints to keep.")
    var keepLast = 3
    @Option(help: "Evaluate the weights on the validation data every so many steps; checkpoints keep the losses.")
    var evaluateEvery: Int?
    @Option(help: "Evaluate the mean of so many of the latest weights too (on one rank).")
    var lawa: Int?
    @Option(help: "How many steps lie between those weights.")
    var lawaEvery = 10
    @Flag(help: "Store with each checkpoint what the model makes of some validation sequences, and compare on resume.")
    var fingerprint = false
    @Flag(
        help: "Refer to files of earlier checkpoints for tensors that have not changed, instead of writing them again.")
    var reuseUnchanged = false
    @Flag(help: "Wait for every save instead of saving snapshots while the run trains on.")
    var blockingSaves = false
    @Option(help: "The most megabytes that snapshots may take beside training; a run that needs more waits.")
    var snapshotMegabytes: Int?
    @Option(
        help: ArgumentHelp(
            "Save snapshots to the keeper that listens there too, and continue from it (see cairn keep). 'auto' is the usual "
                + "path.", valueName: "socket"))
    var keeper: String?
    @Option(help: "Steps between two snapshots that go to the keeper.")
    var keepEvery = 1
    @Option(help: ArgumentHelp("What the keeper calls the run; the folder's name if not given.", valueName: "job"))
    var keeperJob: String?
    @Option(help: ArgumentHelp("Protect each checkpoint with so many parity files (see cairn protect).", valueName: "m"))
    var parity = 0
    @Flag(help: "Mend the store with what parity rebuilds of the checkpoint that the run continues from.")
    var writeBack = false
    @Flag(help: "Continue from the newest valid checkpoint of --out, or start if there is none.")
    var resume = false
    @Option(help: "Start from the newest valid checkpoint of another run's store.")
    var resumeFrom: String?
    @Flag(help: "Leave the optimizer's state out of the resume, to see what that costs.")
    var withoutOptimizer = false
    @Option(help: "Stop after this step, as if interrupted: the schedule remains that of --steps.")
    var stopAfter: Int?
    @Option(
        help: ArgumentHelp(
            "Hold the save of this step half-way, so that the process can be killed in it.", visibility: .hidden))
    var holdSaveOfStep: Int?
    @Option(help: ArgumentHelp("The rank that holds it.", visibility: .hidden))
    var holdRank = 0

    func validate() throws {
        guard keepLast > 0 else { throw ValidationError("--keep-last must be at least 1 (got \(keepLast))") }
        guard (saveEvery == .auto) == (mtbf != nil) else {
            throw ValidationError("--save-every auto and --mtbf TIME go together")
        }
        guard [evaluateEvery, lawa, lawaEvery].allSatisfy({ $0.map { (1...1 << 40).contains($0) } ?? true }) else {
            throw ValidationError("--evaluate-every, --lawa and --lawa-every must be at least 1")
        }
        guard parity == 0 || !reuseUnchanged else {
            throw ValidationError("--parity covers the files of one save: leave out --reuse-unchanged")
        }
        guard (1...1 << 40).contains(keepEvery) else { throw ValidationError("--keep-every must be at least 1") }
        guard (0...128).contains(parity) else { throw ValidationError("--parity must be a number from 0 to 128 (got \(parity))") }
        guard lawa == nil || evaluateEvery != nil else { throw ValidationError("--lawa needs --evaluate-every") }
        guard (snapshotMegabytes.map { (0...1 << 30).contains($0) }) ?? true else {
            throw ValidationError("--snapshot-megabytes must be a number from 0 on")
        }
    }

    private var saveInterval: SaveInterval {
        switch (saveEvery, mtbf) {
        case (.steps(let steps), _): .steps(steps)
        case (.auto, let mtbf): .advised(meanTimeBetweenFailures: mtbf?.seconds ?? .infinity)
        }
    }

    func run(on launcher: RankLauncher) throws {
        var plan = RunPlan(options: options, folder: out)
        plan.start = resumeFrom.map { .newestOf($0) } ?? (resume ? .newest : .fresh)
        plan.saveEvery = saveInterval
        plan.keepLast = keepLast
        plan.evaluateEvery = evaluateEvery
        plan.hasFingerprint = fingerprint
        plan.latest = lawa.map { ($0, lawaEvery) }
        plan.hasBlockingSaves = blockingSaves
        plan.reusesUnchanged = reuseUnchanged
        plan.snapshotMegabytes = snapshotMegabytes
        plan.withoutOptimizer = withoutOptimizer
        plan.stopAfter = stopAfter
        plan.keeper = keeper.map { path in
            RunKeeper(
                path: path == "auto" ? KeeperStorage.usualPath : path, job: keeperJob ?? Self.jobName(out), every: keepEvery)
        }
        plan.parity = parity
        plan.writesBack = writeBack
        plan.stageLosses = try stageLosses.losses(of: options)
        plan.hold = holdSaveOfStep.map { SaveHold(step: $0, rank: holdRank) }
        let ranks = try parallel.rankCount()
        if !launcher.ranksAreProcesses {
            guard let ranks else {
                if !parallel.arguments.isEmpty {
                    throw ValidationError("--zero and --micro-batches need --ranks or --mesh")
                }
                return try SingleRun(plan: plan).run()
            }
            guard ranks <= Self.largestThreadCount else {
                throw ValidationError("at most \(Self.largestThreadCount) ranks run as threads")
            }
        }
        guard options.model == .transformer else { throw ValidationError("only a transformer trains on many ranks") }
        guard lawa == nil else { throw ValidationError("--lawa is for one rank") }
        guard plan.stageLosses.losses.isEmpty else { throw ValidationError("--lose-stage is for one rank") }
        guard !options.outOfOrder else { throw ValidationError("--out-of-order is for one rank") }
        let text = try options.makeText()
        try launcher.launch(ranks) { [plan, parallel] communicator in
            let configuration = try parallel.configuration(rankCount: communicator.size)
            try ParallelRun(plan: plan, parallel: configuration, text: text).run(communicator)
        }
    }

    private static let largestThreadCount = 64

    /// The last component of a path, with what a job's name cannot have replaced.
    private static func jobName(_ path: String) -> String {
        let name = path.split(separator: "/").last.map(String.init) ?? "run"
        return String(name.map { $0.isWhitespace ? "-" : $0 }.prefix(100))
    }
}
