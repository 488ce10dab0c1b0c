package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What stops a job, by what is lost with it.
package enum FailureKind: String, Sendable, Hashable, CaseIterable {
    /// The processes of a host; its memory outside of them and its disk stay.
    case process
    /// A host with all that it has.
    case host
    /// All hosts of a rack at once.
    case rack
    /// More hosts of a parity group than it can do without.
    case group
}

/// The machines of a job, and how often they fail. Rates are per hour.
package struct FailureRates: Sendable, Hashable {
    package var hostCount: Int
    package var hostsPerRack: Int
    /// Crashes of processes, per host.
    package var process = 0.0
    /// Losses of hosts, per host.
    package var host = 0.0
    /// Losses of racks, per rack.
    package var rack = 0.0

    package init(hostCount: Int, hostsPerRack: Int) {
        self.hostCount = hostCount
        self.hostsPerRack = hostsPerRack
    }

    package var rackCount: Int { (hostCount + hostsPerRack - 1) / max(1, hostsPerRack) }
}

/// Hosts that keep parity of each other's snapshots: any `dataCount` of them bring back the others.
package struct ParityGroup: Sendable, Hashable {
    package var dataCount: Int
    package var parityCount: Int
    /// Seconds from the loss of a host until another one has its part again.
    package var repairTime: Double
    /// Whether the hosts of a group stand in racks of their own.
    package var isSpread = true

    package init(dataCount: Int, parityCount: Int, repairTime: Double) {
        self.dataCount = dataCount
        self.parityCount = parityCount
        self.repairTime = repairTime
    }

    package var hostCount: Int { dataCount + parityCount }

    /// The probability that more hosts than the parity can replace are lost at the moment at which one more is lost.
    ///
    /// Hosts fail independently at a rate and are back after the repair time: each of the others is gone with the probability
    /// q = λW / (1 + λW), and at least `parityCount` of them have to be.
    package func lossProbability(rate: Double) -> Double {
        let gone = rate * repairTime / (1 + rate * repairTime)
        let others = hostCount - 1
        // From the smallest term on; each follows from the one before.
        var term = pow(1 - gone, Double(others)), sum = 0.0
        guard term > 0 else { return 1 }
        for count in 0...others {
            if count >= parityCount { sum += term }
            term *= Double(others - count) / Double(count + 1) * gone / (1 - gone)
        }
        return min(1, sum)
    }

    /// How often in a second a group loses more than it can do without, at a failure rate of a host in a second.
    package func lossRate(rate: Double) -> Double {
        Double(hostCount) * rate / (1 + rate * repairTime) * lossProbability(rate: rate)
    }
}

/// A place for checkpoints: what one costs there, and after which failures it is still there. Times are in seconds.
package struct SimulatedTier: Sendable, Hashable {
    package var name: String
    /// How long training is held up.
    package var stall: Double
    /// From the call until the checkpoint can be restored.
    package var timeToDurable: Double
    /// From a failure until training continues from here.
    package var timeToRestart: Double
    package var survives: Set<FailureKind>

    package init(name: String, stall: Double, timeToDurable: Double, timeToRestart: Double, survives: Set<FailureKind>) {
        self.name = name
        self.stall = stall
        self.timeToDurable = timeToDurable
        self.timeToRestart = timeToRestart
        self.survives = survives
    }
}

/// How often to save to each tier, and what failures cost then.
///
/// A failure is met by the first tier that survives it. Each tier has the interval that `IntervalAdvisor` advises for the
/// failures that it meets, and the losses of the tiers are added up: a first-order sum, which holds as long as little of the
/// time is lost. ``FailureSimulation`` plays the same through.
package struct FailurePlan: Sendable {
    /// A tier with its failures and interval.
    package struct PlannedTier: Sendable {
        package var tier: SimulatedTier
        /// Failures in a second that are met from here.
        package var rate: Double
        /// Seconds of training between two checkpoints; `nil` where no failure is met from here.
        package var interval: Double?
        /// The fractions of the time that this tier's checkpoints and failures cost.
        package var loss: IntervalLoss?
    }

    /// How often in a second the job fails in each way.
    package let rates: [FailureKind: Double]
    package let tiers: [PlannedTier]
    package let parity: ParityGroup?
    /// How many parity groups there are.
    package let groupCount: Int
    /// The rate in a second at which one host is lost, alone or with its rack.
    package let hostLossRate: Double

    /// The part of the time that is lost, by the first-order sum.
    package var loss: Double { tiers.reduce(0) { $0 + ($1.loss?.total ?? 0) } }

    /// - Parameter tiers: In the order in which they are tried.
    /// - Throws: ``CairnError/Code/invalidArgument`` for counts, rates and times that cannot be, and for a failure that no tier
    ///   survives.
    package init(_ machines: FailureRates, tiers: [SimulatedTier], parity: ParityGroup? = nil) throws(CairnError) {
        try Self.check(machines, parity)
        let hour = 3600.0, hosts = Double(machines.hostCount), racks = Double(machines.rackCount)
        hostLossRate = (machines.host + machines.rack) / hour
        self.parity = parity
        groupCount = parity.map { machines.hostCount / $0.hostCount } ?? 0
        var rates: [FailureKind: Double] = [
            .process: hosts * machines.process / hour, .host: hosts * machines.host / hour, .rack: racks * machines.rack / hour,
        ]
        if let parity {
            // Where a group lies in one rack, a rack takes more of it than it can do without.
            let rackIsLoss = !parity.isSpread && min(machines.hostsPerRack, parity.hostCount) > parity.parityCount
            let own = parity.isSpread ? hostLossRate : machines.host / hour
            let lost = Double(groupCount) * parity.lossRate(rate: own)
            let beside = (rates[.host] ?? 0) + (parity.isSpread ? rates[.rack] ?? 0 : 0)
            let fraction = beside > 0 ? min(1, lost / beside) : 0
            rates[.group] = lost + (rackIsLoss ? rates[.rack] ?? 0 : 0)
            rates[.host] = (rates[.host] ?? 0) * (1 - fraction)
            rates[.rack] = rackIsLoss ? 0 : (rates[.rack] ?? 0) * (parity.isSpread ? 1 - fraction : 1)
        }
        self.rates = rates
        var met = [Double](repeating: 0, count: tiers.count)
        // In an order of their own: a dictionary's changes from run to run, and with it the last bits of the sums.
        for kind in FailureKind.allCases {
            guard let rate = rates[kind], rate > 0 else { continue }
            guard let index = tiers.firstIndex(where: { $0.survives.contains(kind) }) else {
                throw CairnError(
                    .invalidArgument, "no tier survives a failure that happens",
                    .init(expected: "a tier for failures of a \(kind.rawValue)", advice: "add remote storage"))
            }
            met[index] += rate
        }
        var planned: [PlannedTier] = []
        for (tier, rate) in zip(tiers, met) {
            guard rate > 0 else {
                planned.append(PlannedTier(tier: tier, rate: 0))
                continue
            }
            let advice = try Self.advisor(tier, rate).advise()
            planned.append(PlannedTier(tier: tier, rate: rate, interval: advice.seconds, loss: advice.loss))
        }
        self.tiers = planned
    }

    /// Intervals are whole seconds; a tier without failures is not advised.
    private static func advisor(_ tier: SimulatedTier, _ rate: Double) -> IntervalAdvisor {
        IntervalAdvisor(
            stall: tier.stall, timeToDurable: tier.timeToDurable, timeToRestart: tier.timeToRestart, stepTime: 1,
            meanTimeBetweenFailures: 1 / rate)
    }

    private static func check(_ machines: FailureRates, _ parity: ParityGroup?) throws(CairnError) {
        guard (1...1 << 24).contains(machines.hostCount), machines.hostsPerRack >= 1 else {
            throw CairnError(
                .invalidArgument, "there are no such hosts",
                .init(found: "\(machines.hostCount) hosts, \(machines.hostsPerRack) in a rack"))
        }
        let rates = [machines.process, machines.host, machines.rack]
        guard rates.allSatisfy({ $0.isFinite && $0 >= 0 }), rates.contains(where: { $0 > 0 }) else {
            throw CairnError(
                .invalidArgument, "a rate of failures is not a number, or all are zero", .init(found: "\(rates) per hour"))
        }
        guard let parity else { return }
        guard parity.dataCount >= 1, parity.parityCount >= 1, parity.dataCount <= 4096, parity.parityCount <= 4096,
            parity.hostCount <= machines.hostCount, parity.repairTime.isFinite, parity.repairTime > 0
        else {
            throw CairnError(
                .invalidArgument, "there is no such parity group",
                .init(
                    expected: "1 to \(machines.hostCount) hosts with some parity, and a repair time above 0",
                    found: "\(parity.dataCount)+\(parity.parityCount), \(parity.repairTime) s"))
        }
    }
}
