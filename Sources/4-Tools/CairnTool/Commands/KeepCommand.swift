import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnKeeper
import CairnKeeperGroup

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

            Keepers of several hosts form a group, in which parity outlives the loss of hosts: see `cairn keep run --help` and \
            `cairn keep key --help`.
            """,
        subcommands: [
            KeepRunCommand.self, KeepStatusCommand.self, KeepDrainCommand.self, KeepForgetCommand.self, KeepKeyCommand.self,
        ],
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

            With --group it is one of several hosts' keepers, which hold parity of each other's part: a job's ranks on all of \
            them see one store, and so many hosts as the group has parity may be lost. GROUP.json is the same on all hosts:

              {"group": "kjv", "parity": 1, "members": [
                {"name": "a", "address": "tcp://10.0.0.1:7700", "key": "what `cairn keep key` printed", "rack": "r1"}, …]}

            Example:
              cairn keep key -o a.key
              cairn keep run --memory 64GiB --group group.json --member a --key a.key
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

    @Option(help: ArgumentHelp("The group of keepers that it is one of.", valueName: "file"))
    var group: String?

    @Option(help: ArgumentHelp("Which member of the group it is.", valueName: "name"))
    var member: String?

    @Option(help: ArgumentHelp("Its secret key, made by `cairn keep key`.", valueName: "file"))
    var key: String?

    @Option(help: ArgumentHelp("How long an answer of another member is waited for.", valueName: "seconds"))
    var timeout = 5.0

    func validate() throws {
        guard (group == nil) == (member == nil), (group == nil) == (key == nil) else {
            throw ValidationError("--group, --member and --key belong together")
        }
        guard timeout >= 0.1, timeout <= 3600 else {
            throw ValidationError("--timeout must be 0.1 to 3600 seconds (got \(timeout))")
        }
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
        let membership = try KeeperMembership(group: group, member: member, key: key, timeout: timeout)
        let keeper = try Keeper(at: socket.path, options: options, joining: membership?.join)
        StandardError.line(
            "keeper: listening at \(socket.path), with \(ByteCountText.describe(options.memory)) of memory"
                + (membership.map { ", as \($0.member) of group \(PrintableText.escape($0.file.name))" } ?? ""))
        // A signal ends the sleep, and is noted.
        while (try? Interruption.check()) != nil { usleep(200_000) }
        keeper.stopTaking()
        let hasFailed = try drain(keeper)
        keeper.stop()
        membership?.end()
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
        if let group = status.group { try Self.show(group) }
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

    private static func show(_ group: KeeperStatus.Group) throws {
        try StandardOutput.line(
            "group \(PrintableText.escape(group.name)): \(NumberText.count(group.members.count, "member")), of which "
                + "\(group.parity) may be lost; this is \(group.member)")
        for member in group.members {
            var line = "  \(member.name) at \(PrintableText.escape(member.address)): "
            line += member.isReachable ? "reachable" : "NOT reachable, \(member.problem)"
            if member.wrongAnswers > 0 { line += ", gave wrong bytes \(NumberText.count(member.wrongAnswers, "time"))" }
            if member.lateAnswers > 0 { line += ", answered too late \(NumberText.count(member.lateAnswers, "time"))" }
            try StandardOutput.line(line)
        }
        if group.refused + group.malformed > 0 {
            try StandardOutput.line(
                "  refused: \(NumberText.count(group.refused, "connection")), \(NumberText.count(group.malformed, "frame")); "
                    + "the last: \(PrintableText.escape(group.lastRefusal))")
        }
        for save in group.saves {
            var line = "  \(PrintableText.escape(save.job)) (user \(save.user)) step \(save.step): "
            line += save.isProtected(by: group.parity) ? "protected" : "NOT protected"
            line += ", \(group.risk(of: save)), complete at \(save.completeMembers) of \(group.members.count)"
            line += ", \(ByteCountText.describe(save.parityByteCount)) of parity here"
            if save.rebuiltByteCount > 0 { line += ", \(ByteCountText.describe(save.rebuiltByteCount)) rebuilt" }
            if !save.problem.isEmpty { line += "; \(PrintableText.escape(save.problem))" }
            try StandardOutput.line(line)
        }
    }
}

/// `cairn keep key`
struct KeepKeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key", abstract: "Make the keys of a member of a group of keepers.",
        discussion: """
            Writes the secret key to a new file that only its owner can read, and prints the public key, which belongs in the \
            group file.

            Example:
              cairn keep key -o a.key
            """)

    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("The new file of the secret key.", valueName: "file"))
    var output: String

    @Flag(help: "Print one JSON document instead of text (schema cairn-keeper-key/1).")
    var json = false

    func run() throws {
        let key = try CurveKey()
        try key.save(to: output)
        if json {
            return try ResultDocument.print(
                schema: "cairn-keeper-key/1", ["file": .string(output), "public_key": .string(key.publicText)])
        }
        try StandardOutput.line(key.publicText)
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
