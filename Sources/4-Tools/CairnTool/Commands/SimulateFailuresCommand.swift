import ArgumentParser
import CairnBase
import CairnSnapshot

/// `cairn simulate failures`
struct SimulateFailuresCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "failures", abstract: "Say what failures cost a job, and how often to save to which tier.",
        discussion: """
            Rates are failures per hour: --process-rate and --host-rate of each host, --rack-rate of each rack. A tier is three \
            times in seconds: how long a checkpoint holds training up, from the call until it can be restored, and from a failure \
            until training continues from there. --memory is a keeper beside the processes; with --parity N+M, M hosts of N+M \
            may be lost with their memory. --disk survives crashes of processes, --remote everything. Each failure is met by the \
            first of these that survives it.

            Intervals are those of Daly's formula for the failures that a tier meets. What is lost is a sum of Daly's and Vaidya's \
            model over the tiers, and beside it the mean of --runs simulations of --days days with its standard error.

            Example:
              cairn simulate failures --ranks 16384 --host-rate 1e-4 --process-rate 2e-4 --rack-rate 1e-5 \\
                --memory 0.5,8,90 --parity 6+2 --state-per-rank 12GB --remote 20,600,900 --json
            """)

    @Option(help: ArgumentHelp("How many ranks the job has.", valueName: "count"))
    var ranks: Int

    @Option(help: ArgumentHelp("How many of them a host runs.", valueName: "count"))
    var ranksPerHost = 8

    @Option(help: ArgumentHelp("How many hosts a rack holds.", valueName: "count"))
    var hostsPerRack = 16

    @Option(help: ArgumentHelp("Losses of a host in an hour.", valueName: "rate"))
    var hostRate = 0.0

    @Option(help: ArgumentHelp("Crashes of a host's processes in an hour, the host staying.", valueName: "rate"))
    var processRate = 0.0

    @Option(help: ArgumentHelp("Losses of a rack in an hour, with all its hosts.", valueName: "rate"))
    var rackRate = 0.0

    @Option(help: ArgumentHelp("Checkpoints in the memory of keepers.", valueName: "stall,durable,restart"))
    var memory: TierTimesArgument?

    @Option(help: ArgumentHelp("Checkpoints on the hosts' disks.", valueName: "stall,durable,restart"))
    var disk: TierTimesArgument?

    @Option(help: ArgumentHelp("Checkpoints in remote storage.", valueName: "stall,durable,restart"))
    var remote: TierTimesArgument

    @Option(help: ArgumentHelp("Parity across hosts for --memory: N of data and M that may be lost.", valueName: "n+m"))
    var parity: ParityArgument?

    @Option(help: ArgumentHelp("From the loss of a host until another has its part again.", valueName: "seconds"))
    var repairTime = 600.0

    @Flag(help: "The hosts of a parity group stand in one rack. Default: each in a rack of its own.")
    var groupsInRack = false

    @Option(help: ArgumentHelp("What a rank's checkpoint takes, for memory and traffic of parity.", valueName: "size"))
    var statePerRank: ByteCountArgument?

    @Option(help: ArgumentHelp("How long each simulation is.", valueName: "days"))
    var days = 30.0

    @Option(help: ArgumentHelp("How many simulations.", valueName: "count"))
    var runs = 16

    @Option(help: "Chooses the random numbers of the simulations.")
    var seed: UInt64 = 0

    @Flag(help: "Print one JSON document instead of text for people (schema cairn-simulate-failures/1).")
    var json = false

    func validate() throws {
        guard (1...1 << 24).contains(ranks), (1...1 << 20).contains(ranksPerHost), (1...1 << 20).contains(hostsPerRack) else {
            throw ValidationError("--ranks, --ranks-per-host and --hosts-per-rack must be at least 1")
        }
        if parity != nil, memory == nil { throw ValidationError("--parity goes with --memory") }
        guard days.isFinite, days > 0, days <= 36_525 else { throw ValidationError("--days must be above 0 (got \(days))") }
        guard (2...10_000).contains(runs) else { throw ValidationError("--runs must be from 2 to 10000 (got \(runs))") }
    }

    private var machines: FailureRates {
        var machines = FailureRates(hostCount: (ranks + ranksPerHost - 1) / ranksPerHost, hostsPerRack: hostsPerRack)
        machines.process = processRate
        machines.host = hostRate
        machines.rack = rackRate
        return machines
    }

    func run() throws {
        var group: ParityGroup?
        if let parity {
            var made = ParityGroup(dataCount: parity.data, parityCount: parity.parity, repairTime: repairTime)
            made.isSpread = !groupsInRack
            group = made
        }
        let kept: Set<FailureKind> = group == nil ? [.process] : [.process, .host, .rack]
        var tiers: [SimulatedTier] = []
        if let memory { tiers.append(memory.tier("memory", survives: kept)) }
        if let disk { tiers.append(disk.tier("disk", survives: [.process])) }
        tiers.append(remote.tier("remote", survives: Set(FailureKind.allCases)))
        let plan = try FailurePlan(machines, tiers: tiers, parity: group)
        try checkEventCount(plan)
        let simulation = FailureSimulation(plan, seconds: days * 86_400, runCount: runs, seed: seed)
        try json ? printDocument(plan, simulation) : printText(plan, simulation)
    }

    private static let greatestByteCount = 1e18
    /// More take minutes.
    private static let greatestEventCount = 1e9

    /// A simulation goes from failure to failure and from checkpoint to checkpoint.
    private func checkEventCount(_ plan: FailurePlan) throws(CairnError) {
        let checkpoints = plan.tiers.reduce(0.0) { $0 + ($1.interval.map { 1 / $0 } ?? 0) }
        let failures = FailureKind.allCases.reduce(0.0) { $0 + (plan.rates[$1] ?? 0) }
        let events = (checkpoints + failures) * days * 86_400 * Double(runs)
        guard events <= Self.greatestEventCount else {
            throw CairnError(
                .invalidArgument, "there is too much to simulate",
                .init(
                    expected: "at most \(NumberText.short(Self.greatestEventCount)) failures and checkpoints",
                    found: NumberText.short(events), advice: "make --days or --runs smaller"))
        }
    }

    /// What parity takes: bytes of memory in a host beside its own checkpoint, and what it sends for one.
    private func parityBytes(_ group: ParityGroup) -> (memory: Int, traffic: Int)? {
        guard let state = statePerRank?.byteCount.multipliedReportingOverflow(by: ranksPerHost), !state.overflow else {
            return nil
        }
        let own = Double(state.partialValue)
        let traffic = own * Double(group.parityCount)
        return (Int(min(traffic / Double(group.dataCount), Self.greatestByteCount)), Int(min(traffic, Self.greatestByteCount)))
    }

    private func hours(_ fraction: Double) -> String { NumberText.fixed(fraction * 24, digits: 2) }

    private func printText(_ plan: FailurePlan, _ simulation: FailureSimulation) throws {
        var lines = [
            "\(NumberText.grouped(ranks)) ranks on \(NumberText.count(machines.hostCount, "host")) in "
                + NumberText.count(machines.rackCount, "rack"),
            "failures a day   "
                + FailureKind.allCases.filter { (plan.rates[$0] ?? 0) > 0 }
                .map { "\($0.rawValue) \(NumberText.short((plan.rates[$0] ?? 0) * 86_400))" }.joined(separator: ", "),
        ]
        for tier in plan.tiers {
            let name = tier.tier.name.padding(toLength: 16)
            guard let interval = tier.interval, let loss = tier.loss else {
                lines.append("\(name) meets no failure")
                continue
            }
            lines.append(
                "\(name) every \(NumberText.grouped(Int(min(interval, 1e15)))) s, meets \(NumberText.short(tier.rate * 86_400)) "
                    + "failures a day, costs \(hours(loss.total)) h a day (saving \(hours(loss.checkpointing)), "
                    + "work done again \(hours(loss.rework)), restarts \(hours(loss.restarting)))")
        }
        if let group = plan.parity {
            lines.append(
                "parity           \(group.dataCount)+\(group.parityCount), \(NumberText.count(plan.groupCount, "group")): a loss finds "
                    + "\(group.parityCount) more of its group gone with probability "
                    + "\(NumberText.short(group.lossProbability(rate: plan.hostLossRate))), "
                    + (plan.rates[.group].flatMap {
                        $0 > 0 ? "a group is lost every \(NumberText.short(1 / $0 / 86_400)) days" : nil
                    }
                        ?? "no group is lost"))
            if let bytes = parityBytes(group) {
                lines.append(
                    "                 \(ByteCountText.describe(bytes.memory)) of memory in a host, "
                        + "\(ByteCountText.describe(bytes.traffic)) sent by it for a checkpoint")
            }
        }
        lines += [
            "lost             \(hours(plan.loss)) h a day by the formula",
            "simulated        \(hours(simulation.loss.mean)) h a day, standard error \(hours(simulation.loss.standardError)) "
                + "(\(runs) runs of \(NumberText.short(days)) days, \(NumberText.grouped(simulation.failureCount)) failures, seed \(seed))",
        ]
        for line in lines { try StandardOutput.line(line) }
    }

    private func printDocument(_ plan: FailurePlan, _ simulation: FailureSimulation) throws {
        var rates = JSONObject()
        for kind in FailureKind.allCases { rates[kind.rawValue] = .number((plan.rates[kind] ?? 0) * 86_400) }
        let tiers = plan.tiers.map { tier -> JSONValue in
            [
                "name": .string(tier.tier.name), "failures_per_day": .number(tier.rate * 86_400),
                "interval_seconds": tier.interval.map { .number($0) } ?? .null,
                "saving": tier.loss.map { .number($0.checkpointing) } ?? .null,
                "rework": tier.loss.map { .number($0.rework) } ?? .null,
                "restarting": tier.loss.map { .number($0.restarting) } ?? .null,
            ]
        }
        var parity = JSONValue.null
        if let group = plan.parity {
            let bytes = parityBytes(group)
            parity = [
                "data": .count(group.dataCount), "parity": .count(group.parityCount), "groups": .count(plan.groupCount),
                "loss_probability": .number(group.lossProbability(rate: plan.hostLossRate)),
                "losses_per_day": .number((plan.rates[.group] ?? 0) * 86_400),
                "memory_bytes": bytes.map { .count($0.memory) } ?? .null, "sent_bytes": bytes.map { .count($0.traffic) } ?? .null,
            ]
        }
        try ResultDocument.print(
            schema: "cairn-simulate-failures/1",
            [
                "ranks": .count(ranks), "hosts": .count(machines.hostCount), "racks": .count(machines.rackCount),
                "failures_per_day": .object(rates), "tiers": .array(tiers), "parity": parity,
                "lost_hours_per_day": .number(plan.loss * 24),
                "simulation": [
                    "lost_hours_per_day": .number(simulation.loss.mean * 24),
                    "standard_error": .number(simulation.loss.standardError * 24), "runs": .count(runs), "days": .number(days),
                    "failures": .count(simulation.failureCount), "seed": .string("\(seed)"),
                ],
            ])
    }
}

/// `0.5,8,90`: seconds that a checkpoint holds training up, until it can be restored, and until training continues.
struct TierTimesArgument: ExpressibleByArgument {
    let stall: Double, durable: Double, restart: Double

    init?(argument: String) {
        let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).compactMap { Double($0) }
        guard numbers.count == 3, argument.count(where: { $0 == "," }) == 2, numbers.allSatisfy({ $0.isFinite && $0 >= 0 }),
            numbers[0] > 0
        else { return nil }
        (stall, durable, restart) = (numbers[0], numbers[1], numbers[2])
    }

    func tier(_ name: String, survives kinds: Set<FailureKind>) -> SimulatedTier {
        SimulatedTier(name: name, stall: stall, timeToDurable: durable, timeToRestart: restart, survives: kinds)
    }
}

/// `6+2`
struct ParityArgument: ExpressibleByArgument {
    let data: Int, parity: Int

    init?(argument: String) {
        let parts = argument.split(separator: "+", omittingEmptySubsequences: false)
        guard parts.count == 2, let data = Int(parts[0]), let parity = Int(parts[1]), data > 0, parity > 0 else { return nil }
        (self.data, self.parity) = (data, parity)
    }
}

extension String {
    fileprivate func padding(toLength length: Int) -> String { self + String(repeating: " ", count: max(0, length - count)) }
}
