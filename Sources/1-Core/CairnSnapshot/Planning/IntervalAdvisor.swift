public import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Advises how often to take snapshots, from what they cost and how often the job fails.
///
/// Failures come at random with a constant rate, so the time to the next one is exponentially distributed with the mean M. A
/// snapshot holds training up for s, is durable d after the call, and a restart takes R. With τ seconds of training between
/// snapshots, a second of training that counts takes on average
///
///     M e^((R + d - s)/M) (e^((τ + s)/M) - 1) / τ
///
/// seconds on the wall: the model of Vaidya (1997), who tells a checkpoint's overhead s from its latency d. Where training
/// waits for the disk, s = d, it is the complete model of Daly (2006); that snapshots are durable later than training continues
/// adds d - s to what each failure costs, as a longer restart would. The τ that makes it smallest depends on s and M alone: the
/// *stall* takes the place that the time of a blocking save has in the formulae. What is cheap can be done often; only sooner
/// than a snapshot is durable it makes no sense to take the next.
///
/// Sources: N. H. Vaidya, "Impact of checkpoint latency on overhead ratio of a checkpointing scheme", IEEE Transactions on
/// Computers 46(8), 1997; J. W. Young, "A first order approximation to the optimum checkpoint interval", Communications of the
/// ACM 17(9), 1974; J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future
/// Generation Computer Systems 22(3), 2006.
public struct IntervalAdvisor: Sendable, Hashable {
    /// How the optimum is computed.
    public enum Formula: Sendable, Hashable {
        /// √(2sM): Young (1974). Good while s is far below M.
        case young
        /// √(2sM) (1 + √(s/2M)/3 + (s/2M)/9) - s, and M where s is 2M or more: Daly (2006), equation 37.
        case daly
    }

    /// How long a snapshot holds training up in all: the call, waiting, and what updates cost more because of it.
    package var stall: Double
    /// From the call until the checkpoint is durable.
    package var timeToDurable: Double
    /// From a failure until training continues: noticing it, starting, loading.
    package var timeToRestart: Double
    /// How long a training step takes.
    package var stepTime: Double
    /// The mean time between failures of the whole job.
    public var meanTimeBetweenFailures: Double

    /// All times are in seconds.
    public init(
        stall: Double, timeToDurable: Double, timeToRestart: Double, stepTime: Double, meanTimeBetweenFailures: Double
    ) {
        self.stall = stall
        self.timeToDurable = timeToDurable
        self.timeToRestart = timeToRestart
        self.stepTime = stepTime
        self.meanTimeBetweenFailures = meanTimeBetweenFailures
    }

    /// Takes stall and time to durable from the timelines of snapshots: the medians over the last 32 steps, of the slowest
    /// rank each.
    ///
    /// - Returns: `nil` without timelines.
    public init?(
        _ timelines: [SnapshotTimeline], timeToRestart: Double, stepTime: Double, meanTimeBetweenFailures: Double
    ) {
        var stalls: [Int: Double] = [:]
        var durations: [Int: Double] = [:]
        for timeline in timelines {
            stalls[timeline.step] = max(stalls[timeline.step] ?? 0, timeline.stall)
            durations[timeline.step] = max(durations[timeline.step] ?? 0, timeline.total)
        }
        let recent = stalls.keys.sorted().suffix(32)
        guard let stall = Self.median(recent.compactMap { stalls[$0] }),
            let durable = Self.median(recent.compactMap { durations[$0] })
        else { return nil }
        self.init(
            stall: stall, timeToDurable: durable, timeToRestart: timeToRestart, stepTime: stepTime,
            meanTimeBetweenFailures: meanTimeBetweenFailures)
    }

    /// The mean time between failures of a job that stops when any of its nodes does.
    public static func meanTimeBetweenFailures(ofNode node: Double, nodeCount: Int) -> Double {
        node / Double(max(1, nodeCount))
    }

    /// The interval that loses least, a whole number of steps.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for times that are negative, not finite or, for the step and between
    ///   failures, zero.
    public func advise(_ formula: Formula = .daly) throws(CairnError) -> IntervalAdvice {
        try check()
        let optimum = self.optimum(formula)
        let wanted = max(1, (optimum / stepTime).rounded())
        let least = (timeToDurable / stepTime).rounded(.up)
        // More than fits a step number is as good as never.
        let steps = Int(exactly: min(max(wanted, least), 0x1p53)) ?? 1
        let seconds = Double(steps) * stepTime
        return IntervalAdvice(
            seconds: seconds, steps: steps, optimum: optimum, isBoundByDurability: least > wanted, loss: loss(of: seconds))
    }

    /// What a formula gives, in seconds of training between snapshots.
    func optimum(_ formula: Formula) -> Double {
        let (cost, mean) = (stall, meanTimeBetweenFailures)
        switch formula {
        case .young: return (2 * cost * mean).squareRoot()
        case .daly:
            guard cost < 2 * mean else { return mean }
            let ratio = cost / (2 * mean)
            return (2 * cost * mean).squareRoot() * (1 + ratio.squareRoot() / 3 + ratio / 9) - cost
        }
    }

    /// What snapshots cost that are taken every `seconds` of training.
    ///
    /// Between two failures there are on average e^(-(d - s)/M) / (e^((τ + s)/M) - 1) durable snapshots, and a restart, which
    /// may fail too, takes M (e^(R/M) - 1).
    package func loss(of seconds: Double) -> IntervalLoss {
        let mean = meanTimeBetweenFailures
        let period = seconds + stall
        let snapshots = exp(-max(0, timeToDurable - stall) / mean) / expm1(period / mean)
        let running = exp(-timeToRestart / mean)
        return IntervalLoss(
            checkpointing: running * snapshots * stall / mean,
            rework: running * (1 - snapshots * period / mean), restarting: -expm1(-timeToRestart / mean))
    }

    private func check() throws(CairnError) {
        let times = [
            ("stall", stall, false), ("time to durable", timeToDurable, false), ("time to restart", timeToRestart, false),
            ("step time", stepTime, true), ("mean time between failures", meanTimeBetweenFailures, true),
        ]
        for (name, time, isPositive) in times where !(time.isFinite && time >= 0 && (time > 0 || !isPositive)) {
            throw CairnError(
                .invalidArgument, "the \(name) is not a time",
                .init(expected: isPositive ? "more than 0 seconds" : "0 seconds or more", found: "\(time)"))
        }
    }

    private static func median(_ values: [Double]) -> Double? {
        guard !values.isEmpty else { return nil }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}

extension SnapshotTimeline {
    /// What training is known to have waited for the snapshot. Updates that went into another buffer may have been slower
    /// beyond that: to count them, measure the step's time with and without snapshots.
    public var stall: Double { retain + wait + updateWait }
}

/// How often to take snapshots, and what that costs.
public struct IntervalAdvice: Sendable, Hashable {
    /// Training time between two snapshots, in seconds: a whole number of steps.
    public var seconds: Double
    /// The same in steps, at least 1.
    public var steps: Int
    /// What the formula alone gives, in seconds.
    public var optimum: Double
    /// Whether the interval is longer than the optimum because a snapshot takes that long to become durable.
    public var isBoundByDurability: Bool
    /// What the interval costs.
    public var loss: IntervalLoss
}

/// The expected fractions of the time on the wall that are not training that counts. They add up to ``total``.
public struct IntervalLoss: Sendable, Hashable {
    /// Taking snapshots.
    public var checkpointing: Double
    /// Doing again what a failure undid.
    public var rework: Double
    /// Starting again after failures.
    public var restarting: Double

    /// All of them.
    public var total: Double { checkpointing + rework + restarting }
}
