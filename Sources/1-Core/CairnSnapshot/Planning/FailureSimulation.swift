import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A mean of independent samples and how sure it is.
package struct SampledMean: Sendable, Hashable {
    package var mean: Double
    /// The standard deviation of the mean.
    package var standardError: Double

    package init(_ samples: [Double]) {
        let count = Double(samples.count)
        let mean = samples.isEmpty ? 0 : samples.reduce(0, +) / count
        let squares = samples.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        self.mean = mean
        standardError = samples.count > 1 ? (squares / (count - 1) / count).squareRoot() : 0
    }
}

/// Plays a plan through, failure by failure.
package struct FailureSimulation: Sendable {
    /// The part of the time that is lost.
    package let loss: SampledMean
    /// How many failures there were in all.
    package let failureCount: Int

    /// A checkpoint: how much training it has, and when it can be restored from.
    private struct Saved {
        var work: Double
        var readyAt: Double
    }

    /// - Parameters:
    ///   - seconds: How long each run is.
    ///   - runCount: How many independent runs.
    package init(_ plan: FailurePlan, seconds: Double, runCount: Int, seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var losses: [Double] = [], failures = 0
        for _ in 0..<runCount {
            let (work, time, count) = Self.run(plan, seconds, &random)
            losses.append(1 - work / time)
            failures += count
        }
        loss = SampledMean(losses)
        failureCount = failures
    }

    private static func run(
        _ plan: FailurePlan, _ seconds: Double, _ random: inout SplitMix64
    ) -> (work: Double, time: Double, failures: Int) {
        let kinds = FailureKind.allCases.filter { (plan.rates[$0] ?? 0) > 0 }
        let total = kinds.reduce(0) { $0 + (plan.rates[$1] ?? 0) }
        // Training starts from what every tier has.
        var saved = plan.tiers.map { _ in [Saved(work: 0, readyAt: 0)] }
        var due = plan.tiers.map { $0.interval ?? .infinity }
        var time = 0.0, work = 0.0, failures = 0
        var nextFailure = random.exponential(rate: total)
        while time < seconds {
            // Up to the next checkpoint, whose stall is part of it.
            let tier = due.indices.min { due[$0] < due[$1] } ?? 0
            let stall = due[tier].isFinite ? plan.tiers[tier].tier.stall : 0
            let end = time + (due[tier] - work)
            if end + stall <= nextFailure {
                guard end < seconds else {
                    work += seconds - time
                    time = seconds
                    break
                }
                work = due[tier]
                time = end + stall
                // Of two that wait to be ready the older may be needed yet.
                let ready = saved[tier].last { $0.readyAt <= time }?.work ?? 0
                saved[tier].removeAll { $0.work < ready }
                saved[tier].append(Saved(work: work, readyAt: end + max(stall, plan.tiers[tier].tier.timeToDurable)))
                due[tier] += plan.tiers[tier].interval ?? .infinity
                continue
            }
            guard nextFailure < seconds else {
                work += max(0, min(seconds, end) - time)
                time = seconds
                break
            }
            time = nextFailure
            // A restart may fail too.
            repeat {
                failures += 1
                let kind = random.choose(kinds, rates: plan.rates, total: total)
                var restart = 0.0
                (work, restart) = recover(plan, kind, at: time, &saved)
                nextFailure = time + random.exponential(rate: total)
                time = min(time + restart, nextFailure)
            } while time == nextFailure && time < seconds
            for index in due.indices { due[index] = work + (plan.tiers[index].interval ?? .infinity) }
        }
        return (work, time, failures)
    }

    /// What training goes on with after a failure, and how long that takes.
    private static func recover(
        _ plan: FailurePlan, _ kind: FailureKind, at time: Double, _ saved: inout [[Saved]]
    ) -> (work: Double, restart: Double) {
        for (index, tier) in plan.tiers.enumerated() where !tier.tier.survives.contains(kind) { saved[index] = [] }
        let index = plan.tiers.firstIndex { $0.tier.survives.contains(kind) && $0.interval != nil } ?? 0
        let work = saved[index].last { $0.readyAt <= time }?.work ?? 0
        // What is newer is of training that did not happen; what was restored is in every tier again.
        for other in saved.indices {
            saved[other].removeAll { $0.work > work || $0.readyAt > time }
            if saved[other].isEmpty { saved[other] = [Saved(work: work, readyAt: time)] }
        }
        return (work, plan.tiers[index].tier.timeToRestart)
    }
}

/// Plays the hosts of one parity group through: how often it loses more than it can do without.
package struct GroupSimulation: Sendable {
    /// Losses in a second.
    package let rate: SampledMean

    /// - Parameter hostRate: Failures of a host in a second while it runs.
    package init(_ group: ParityGroup, hostRate: Double, seconds: Double, runCount: Int, seed: UInt64) {
        var random = SplitMix64(seed: seed)
        rate = SampledMean(
            (0..<runCount).map { _ in
                // The next failure of each host, and until when each is gone.
                var failures = (0..<group.hostCount).map { _ in random.exponential(rate: hostRate) }
                var goneUntil = [Double](repeating: -1, count: group.hostCount)
                var losses = 0
                while let host = failures.indices.min(by: { failures[$0] < failures[$1] }), failures[host] < seconds {
                    let time = failures[host]
                    let gone = goneUntil.indices.count { $0 != host && goneUntil[$0] > time }
                    if gone >= group.parityCount { losses += 1 }
                    goneUntil[host] = time + group.repairTime
                    failures[host] = goneUntil[host] + random.exponential(rate: hostRate)
                }
                return Double(losses) / seconds
            })
    }
}

extension SplitMix64 {
    /// A number between 0 and 1, neither of which it is.
    fileprivate mutating func uniform() -> Double { (Double(next() >> 11) + 0.5) * 0x1p-53 }

    fileprivate mutating func exponential(rate: Double) -> Double { -log(uniform()) / rate }

    fileprivate mutating func choose(_ kinds: [FailureKind], rates: [FailureKind: Double], total: Double) -> FailureKind {
        var rest = uniform() * total
        for kind in kinds {
            rest -= rates[kind] ?? 0
            if rest < 0 { return kind }
        }
        return kinds.last ?? .process
    }
}
