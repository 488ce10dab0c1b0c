import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnKeeper

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `cairn keep`
struct KeepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keep", abstract: "Hold the snapshots of a host's trainers in memory that outlives them.",
        discussion: """
            Without a subcommand it is the keeper: it works until SIGTERM or SIGINT. Trainers reach it through KeeperStorage \
            of the module CairnKeeper, `cairn-train` with --keeper. A trainer that is killed and started again goes on from \
            the newest complete snapshot without reading a disk.

            Example:
              cairn keep --memory 64GiB --drain-to runs/kept &
              cairn keep status --json
              cairn keep drain kjv --to runs/kjv
            """,
        subcommands: [KeepRunCommand.self, KeepStatusCommand.self, KeepDrainCommand.self, KeepForgetCommand.self],
        defaultSubcommand: KeepRunCommand.self)
}

/// Where a keeper listens.
struct KeeperSocketOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where the keeper listens. Without it CAIRN_KEEPER, or cairn/keeper.sock in XDG_RUNTIME_DIR, or "
                + "/tmp/cairn-UID/keeper.sock.", valueName: "path"))
    var socket: String?

    var path: String { socket ?? KeeperStorage.usualPath }
}

/// `cairn keep run`
struct KeepRunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Be the keeper, until SIGTERM or SIGINT. The default.",
        discussion: """
            With --drain-to the newest complete checkpoint of every job is copied to DIR/JOB before it ends, verified on the \
            way. Other users' jobs go to DIR/UID-JOB. Exit code 1 if one could not be copied.
            """)

    @OptionGroup var socket: KeeperSocketOption

    @Option(help: ArgumentHelp("The memory that it takes at most, such as 64GiB.", valueName: "bytes"))
    var memory: String

    @Option(help: ArgumentHelp("The memory that it takes for one user at most; all, if not given.", valueName: "bytes"))
    var memoryPerUser: String?

    @Option(help: ArgumentHelp("Where the newest checkpoints go when it ends.", valueName: "dir"))
    var drainTo: String?

    @Flag(help: "Let every user of this host connect. Users never see each other's jobs.")
    var shared = false

    func validate() throws {
        for (name, value) in [("memory", memory), ("memory-per-user", memoryPerUser ?? "1")] {
            guard let byteCount = ByteCountText.parse(value), byteCount > 0 else {
                throw ValidationError("--\(name) must be a number of bytes such as 64GiB (got \(value))")
            }
        }
    }

    func run() throws {
        var options = KeeperOptions(memory: ByteCountText.parse(memory) ?? 0)
        options.memoryPerUser = memoryPerUser.flatMap(ByteCountText.parse)
        options.isShared = shared
        Interruption.watch()
        Self.raiseFileLimit()
        let keeper = try Keeper(at: socket.path, options: options)
        StandardError.line(
            "keeper: listening at \(socket.path), with \(ByteCountText.describe(options.memory)) of memory")
        // A signal ends the sleep, and is noted.
        while (try? Interruption.check()) != nil { usleep(200_000) }
        keeper.stopTaking()
        let hasFailed = try drain(keeper)
        keeper.stop()
        StandardError.line("keeper: ended")
        if hasFailed { throw ExitCode(1) }
    }

    /// Every object takes a descriptor.
    private static func raiseFileLimit() {
        var limit = rlimit()
        #if canImport(Glibc)
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        #else
        let resource = RLIMIT_NOFILE
        #endif
        guard getrlimit(resource, &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(resource, &limit)
    }

    /// - Returns: Whether a job's checkpoint could not be copied.
    private func drain(_ keeper: Keeper) throws -> Bool {
        let jobs = keeper.status.jobs
        guard let drainTo else {
            for job in jobs where !job.steps.isEmpty {
                StandardError.line(
                    "keeper: step \(job.steps.last ?? 0) of \(PrintableText.escape(job.name)) is given up: there is no --drain-to"
                )
            }
            return false
        }
        var hasFailed = false
        for drained in try keeper.drain(to: drainTo) {
            let job = PrintableText.escape(drained.job)
            switch drained.result {
            case .success(nil): StandardError.line("keeper: \(job) has no complete checkpoint")
            case .success(let step?): StandardError.line("keeper: step \(step) of \(job) is in \(drainTo)")
            case .failure(let error):
                hasFailed = true
                StandardError.line("keeper: \(job) is not copied: \(error)")
            }
        }
        return hasFailed
    }
}

/// `cairn keep status`
struct KeepStatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show what a keeper holds.",
        discussion: "Users see their own jobs; root and the keeper's own user see all.")

    @OptionGroup var socket: KeeperSocketOption

    @Flag(help: "Print one JSON document instead of text (schema cairn-keeper-status/1).")
    var json = false

    @Flag(help: "Print the numbers in Prometheus's text format.")
    var metrics = false

    func validate() throws {
        if json, metrics { throw ValidationError("--json and --metrics exclude each other") }
    }

    func run() throws {
        let status = try KeeperStatus(ofKeeperAt: socket.path)
        if json { return try ResultDocument.print(schema: "cairn-keeper-status/1", status.members) }
        if metrics { return try StandardOutput.write(Array(status.metrics.utf8)) }
        try StandardOutput.line(
            "keeper \(status.process) at \(PrintableText.escape(status.path)), up \(DurationText.describe(status.seconds))")
        try StandardOutput.line(
            "memory: \(ByteCountText.describe(status.usedMemory)) of \(ByteCountText.describe(status.memory)) taken")
        try StandardOutput.line(
            "since the start: \(NumberText.count(status.committed, "checkpoint")), "
                + "\(NumberText.count(status.abandoned, "unfinished object")) of processes that went away, "
                + "\(NumberText.count(status.refused, "object")) refused for want of memory")
        if status.jobs.isEmpty { try StandardOutput.line("no jobs") }
        for job in status.jobs {
            let steps = job.steps.map(String.init).joined(separator: ", ")
            var line = "\(PrintableText.escape(job.name)) (user \(job.user)): "
            line += steps.isEmpty ? "no complete checkpoint" : "step \(steps)"
            line += ", \(ByteCountText.describe(job.byteCount)), \(NumberText.count(job.connections, "connection"))"
            if job.writers > 0 {
                line += ", writing \(NumberText.count(job.writers, "object")) of \(ByteCountText.describe(job.writtenByteCount))"
            }
            try StandardOutput.line(line)
        }
    }
}

/// `cairn keep drain`
struct KeepDrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain", abstract: "Copy the newest complete checkpoint of a job to a run's directory.",
        discussion: "The keeper goes on, and keeps what it has. A damaged checkpoint is passed over for an older one.")

    @Argument(help: "The job.")
    var job: String

    @Option(help: ArgumentHelp("The directory of a run.", valueName: "store"))
    var to: String

    @Option(help: ArgumentHelp("Whose job it is: for root and the keeper's own user.", valueName: "uid"))
    var user: UInt32?

    @OptionGroup var socket: KeeperSocketOption

    func run() throws {
        let storage = try KeeperStorage(observing: job, of: user, at: socket.path)
        let target = CheckpointStore(path: to)
        guard let step = try CheckpointStore(storage: storage, name: "keeper:\(job)").replicateNewest(to: target) else {
            throw CairnError(
                .notFound, "the keeper has no complete checkpoint of the job",
                .init(file: socket.path, found: job, advice: "`cairn keep status` lists the jobs"))
        }
        try StandardOutput.line("copied step \(step) to \(PrintableText.escape(to))")
    }
}

/// `cairn keep forget`
struct KeepForgetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget", abstract: "Give up all that a keeper has of a job that has ended.")

    @Argument(help: "The job.")
    var job: String

    @Option(help: ArgumentHelp("Whose job it is: for root and the keeper's own user.", valueName: "uid"))
    var user: UInt32?

    @OptionGroup var socket: KeeperSocketOption

    func run() throws {
        try KeeperStatus.forget(job, of: user.map(Int.init), ofKeeperAt: socket.path)
        try StandardOutput.line("forgot \(PrintableText.escape(job))")
    }
}
