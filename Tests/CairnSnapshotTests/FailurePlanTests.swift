import CairnBase
import CairnSnapshot
import Testing

/// What failures cost, by formulas and played through.
@Suite struct FailurePlanning {
    private static func machines(hosts: Int = 100, process: Double = 0, host: Double = 0, rack: Double = 0) -> FailureRates {
        var machines = FailureRates(hostCount: hosts, hostsPerRack: 10)
        machines.process = process
        machines.host = host
        machines.rack = rack
        return machines
    }

    private static let everything = Set(FailureKind.allCases)

    private static func tier(_ stall: Double, _ durable: Double, _ restart: Double) -> SimulatedTier {
        SimulatedTier(name: "remote", stall: stall, timeToDurable: durable, timeToRestart: restart, survives: everything)
    }

    /// One tier is what the model of Daly and Vaidya describes exactly.
    @Test(arguments: [(5.0, 5.0, 60.0), (1, 20, 300), (30, 30, 0)])
    func aSimulationLosesWhatTheClosedFormSays(stall: Double, durable: Double, restart: Double) throws {
        // A failure an hour on average.
        let plan = try FailurePlan(Self.machines(process: 0.01), tiers: [Self.tier(stall, durable, restart)])
        let interval = try #require(plan.tiers[0].interval)
        #expect(abs(interval - (2 * stall * 3600).squareRoot()) < 0.2 * interval + durable, "near Young's interval")
        let simulation = FailureSimulation(plan, seconds: 400 * 3600, runCount: 60, seed: 11)
        let error = simulation.loss.mean - plan.loss
        #expect(simulation.loss.standardError < 0.05 * plan.loss)
        #expect(
            abs(error) < 3.5 * simulation.loss.standardError,
            "seed 11: \(simulation.loss.mean) ± \(simulation.loss.standardError), expected \(plan.loss)")
        #expect(abs(Double(simulation.failureCount) / 24_000 - 1) < 0.05)
        // Any other interval costs more.
        let advisor = IntervalAdvisor(
            stall: stall, timeToDurable: durable, timeToRestart: restart, stepTime: 1, meanTimeBetweenFailures: 3600)
        for other in [0.4, 2.5] where interval * other > durable {
            #expect(advisor.loss(of: interval * other).total > plan.loss)
        }
    }

    @Test func severalTiersLoseWhatTheSumOfTheirPartsSays() throws {
        let memory = SimulatedTier(name: "memory", stall: 0.5, timeToDurable: 4, timeToRestart: 30, survives: [.process])
        let plan = try FailurePlan(
            Self.machines(process: 0.005, host: 0.0005, rack: 0.0005), tiers: [memory, Self.tier(10, 60, 300)])
        let failuresAnHour = plan.tiers.map(\.rate).reduce(0, +) * 3600
        #expect(failuresAnHour > 0.5)
        #expect((plan.tiers[0].interval ?? 0) < (plan.tiers[1].interval ?? 0))
        let simulation = FailureSimulation(plan, seconds: 2000 * 3600, runCount: 30, seed: 12)
        // The sum is of first order: products of the losses, some hundredths each, are left out.
        let slack = plan.loss * plan.loss + 3.5 * simulation.loss.standardError
        #expect(abs(simulation.loss.mean - plan.loss) < slack, "seed 12: \(simulation.loss.mean), expected \(plan.loss)")
        let single = try FailurePlan(Self.machines(process: 0.005, host: 0.0005, rack: 0.0005), tiers: [Self.tier(10, 60, 300)])
        #expect(plan.loss < single.loss, "the memory tier pays")
    }

    @Test(arguments: [(2, 1), (6, 2), (4, 4)])
    func aGroupIsLostAsOftenAsTheBinomialSays(data: Int, parity: Int) throws {
        let group = ParityGroup(dataCount: data, parityCount: parity, repairTime: 600)
        let rate = 1.0 / 3600
        let simulation = GroupSimulation(group, hostRate: rate, seconds: 3e6, runCount: 40, seed: 13)
        let expected = group.lossRate(rate: rate)
        #expect(expected > 0 && simulation.rate.standardError < 0.1 * expected)
        #expect(
            abs(simulation.rate.mean - expected) < 3.5 * simulation.rate.standardError + 1e-3 * expected,
            "seed 13: \(simulation.rate.mean) ± \(simulation.rate.standardError), expected \(expected)")
    }

    @Test func parityTakesHostFailuresFromRemoteStorageUnlessGroupsShareARack() throws {
        let memory = SimulatedTier(
            name: "memory", stall: 0.5, timeToDurable: 4, timeToRestart: 30, survives: [.process, .host, .rack])
        var group = ParityGroup(dataCount: 6, parityCount: 2, repairTime: 600)
        let machines = Self.machines(hosts: 2048, host: 1e-4, rack: 1e-5)
        let spread = try FailurePlan(machines, tiers: [memory, Self.tier(10, 600, 900)], parity: group)
        let total = 2048 * 1e-4 + 205 * 1e-5
        let counted = spread.rates.values.reduce(0, +) * 3600
        #expect(abs(counted / total - 1) < 1e-9, "every failure is counted once")
        let spreadLosses = (spread.rates[.group] ?? 1) * 3600
        #expect(spreadLosses < 1e-6 * total)
        #expect(spread.groupCount == 256)
        group.isSpread = false
        let together = try FailurePlan(machines, tiers: [memory, Self.tier(10, 600, 900)], parity: group)
        let lostGroups = (together.rates[.group] ?? 0) * 3600
        #expect(abs(lostGroups / (205 * 1e-5) - 1) < 0.01, "a rack takes its groups with it")
        #expect(together.rates[.rack] == 0)
        #expect(group.lossProbability(rate: 1e9) > 0.99)
        #expect(group.lossProbability(rate: 0) == 0)
        let pair = ParityGroup(dataCount: 1, parityCount: 1, repairTime: 1)
        #expect(pair.lossProbability(rate: 1) == 0.5)
    }

    @Test func theSameSeedGivesTheSameAndAnotherAnother() throws {
        let plan = try FailurePlan(Self.machines(process: 0.01), tiers: [Self.tier(5, 5, 60)])
        func loss(_ seed: UInt64) -> SampledMean { FailureSimulation(plan, seconds: 1e6, runCount: 4, seed: seed).loss }
        #expect(loss(1) == loss(1) && loss(1) != loss(2))
    }

    @Test func whatCannotBeIsRefused() throws {
        func plan(_ machines: FailureRates, _ tiers: [SimulatedTier], _ parity: ParityGroup? = nil) throws {
            _ = try FailurePlan(machines, tiers: tiers, parity: parity)
        }
        let remote = [Self.tier(5, 5, 60)]
        let local = [SimulatedTier(name: "disk", stall: 1, timeToDurable: 1, timeToRestart: 1, survives: [.process])]
        #expect(throws: CairnError.self) { try plan(Self.machines(), remote) }
        #expect(throws: CairnError.self) { try plan(Self.machines(process: -1), remote) }
        #expect(throws: CairnError.self) { try plan(Self.machines(hosts: 0, process: 1), remote) }
        #expect(throws: CairnError.self) { try plan(Self.machines(host: 1), local) }
        for group in [
            ParityGroup(dataCount: 99, parityCount: 2, repairTime: 1), ParityGroup(dataCount: 0, parityCount: 2, repairTime: 1),
            ParityGroup(dataCount: 2, parityCount: 1, repairTime: 0), ParityGroup(dataCount: 2, parityCount: 1, repairTime: .nan),
        ] {
            #expect(throws: CairnError.self) { try plan(Self.machines(host: 1), remote, group) }
        }
    }
}
