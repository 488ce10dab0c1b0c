import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Advice on how often to take snapshots.
@Suite struct IntervalAdvisorTests {
    private func advisor(
        stall: Double, durable: Double? = nil, restart: Double = 600, step: Double = 1, mean: Double
    ) -> IntervalAdvisor {
        IntervalAdvisor(
            stall: stall, timeToDurable: durable ?? stall, timeToRestart: restart, stepTime: step,
            meanTimeBetweenFailures: mean)
    }

    /// Daly (2006), figures 3 to 5: a dump takes 5 minutes, a restart 10.
    @Test(arguments: [(24 * 60.0, 117.0), (6 * 60.0, 57.0), (15.0, 9.1)])
    func theHigherOrderEstimateIsThatOfThePaper(mean: Double, expected: Double) throws {
        let advice = try advisor(stall: 5, restart: 10, step: 0.1, mean: mean).advise()
        #expect(abs(advice.optimum - expected) < (expected < 10 ? 0.05 : 0.5))
        #expect(abs(advice.seconds - advice.optimum) <= 0.05 + 1e-9)
    }

    @Test func theFirstOrderEstimateIsYoungs() throws {
        let advice = try advisor(stall: 50, step: 1, mean: 10_000).advise(.young)
        #expect(advice.optimum == 1000 && advice.steps == 1000)
    }

    @Test func aSaveThatTakesLongerThanTwoFailuresIsMadeOncePerFailure() throws {
        #expect(try advisor(stall: 100, mean: 40).advise().optimum == 40)
    }

    @Test func theNextSnapshotIsNotTakenBeforeThisOneIsDurable() throws {
        let advice = try advisor(stall: 0.001, durable: 25, step: 0.4, mean: 3600).advise()
        #expect(advice.isBoundByDurability && advice.steps == 63 && advice.seconds >= 25)
        let free = try advisor(stall: 0.001, durable: 1, step: 0.4, mean: 3600 * 24).advise()
        #expect(!free.isBoundByDurability && free.steps == 33)
        #expect(try advisor(stall: 0, durable: 0, step: 7, mean: 3600).advise().steps == 1)
    }

    @Test func theLossIsThatOfDalysCompleteModelWhereTrainingWaits() {
        let (stall, restart, mean) = (5.0, 10.0, 360.0)
        for interval in [10.0, 57, 200] {
            let wall = mean * exp(restart / mean) * (exp((interval + stall) / mean) - 1) / interval
            let loss = advisor(stall: stall, restart: restart, mean: mean).loss(of: interval)
            #expect(abs(loss.total - (1 - 1 / wall)) < 1e-12)
            #expect(loss.checkpointing > 0 && loss.rework > 0 && loss.restarting > 0)
        }
    }

    /// The advised interval is as good as the best that simulated failures find, and costs what it is said to.
    @Test(arguments: [
        IntervalAdvisor(
            stall: 30, timeToDurable: 30, timeToRestart: 120, stepTime: 1, meanTimeBetweenFailures: 7200),
        IntervalAdvisor(
            stall: 0.5, timeToDurable: 40, timeToRestart: 200, stepTime: 2, meanTimeBetweenFailures: 3600),
        IntervalAdvisor(
            stall: 5, timeToDurable: 20, timeToRestart: 60, stepTime: 0.5, meanTimeBetweenFailures: 900),
        IntervalAdvisor(
            stall: 20, timeToDurable: 60, timeToRestart: 300, stepTime: 3, meanTimeBetweenFailures: 86_400),
    ])
    func simulatedFailuresAgree(_ advisor: IntervalAdvisor) throws {
        let advice = try advisor.advise()
        var simulation = FailureSimulation(advisor, seed: 20_060_201)
        let advised = simulation.loss(of: advice.seconds)
        #expect(abs(advised - advice.loss.total) < 0.02 * advice.loss.total + 0.001, "predicted \(advice.loss.total)")
        var best = advised
        for factor in [0.25, 0.4, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.2, 3, 5] {
            let interval = max(advisor.timeToDurable, advice.seconds * factor)
            best = min(best, simulation.loss(of: interval))
        }
        #expect(advised <= best * 1.03 + 0.0005, "advised \(advised), best \(best)")
    }

    @Test func timelinesGiveTheMediansOfTheSlowestRanks() throws {
        var timelines: [SnapshotTimeline] = []
        for step in 1...40 {
            for rank in 0..<2 {
                var timeline = SnapshotTimeline()
                (timeline.step, timeline.rank) = (step, rank)
                // Old ones, and the faster rank, do not count.
                timeline.retain = step <= 8 ? 100 : rank == 0 ? 0.001 : 0.002
                timeline.updateWait = step <= 8 ? 0 : rank == 0 ? 0 : Double(step) / 1000
                timeline.total = rank == 0 ? 5 : 6
                timelines.append(timeline)
            }
        }
        let advisor = try #require(
            IntervalAdvisor(timelines, timeToRestart: 30, stepTime: 0.5, meanTimeBetweenFailures: 1e5))
        #expect(abs(advisor.stall - 0.0265) < 1e-12 && advisor.timeToDurable == 6)
        #expect(IntervalAdvisor([], timeToRestart: 1, stepTime: 1, meanTimeBetweenFailures: 1) == nil)
        #expect(IntervalAdvisor.meanTimeBetweenFailures(ofNode: 1000, nodeCount: 8) == 125)
    }

    @Test func timesThatAreNoneAreRefused() {
        for (stall, step, mean) in [(-1.0, 1.0, 1.0), (.nan, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, .infinity), (.infinity, 1, 1)] {
            let error = #expect(throws: CairnError.self) {
                try IntervalAdvisor(
                    stall: stall, timeToDurable: 1, timeToRestart: 1, stepTime: step, meanTimeBetweenFailures: mean
                ).advise()
            }
            #expect(error?.code == .invalidArgument)
        }
        // A step number that no integer holds.
        let huge = IntervalAdvisor(
            stall: 1e300, timeToDurable: 1e300, timeToRestart: 1, stepTime: 1e-300, meanTimeBetweenFailures: 1e300)
        #expect((try? huge.advise().steps) ?? 0 > 0)
    }
}

/// A job that fails at random: it is played, not computed.
private struct FailureSimulation {
    private let advisor: IntervalAdvisor
    private let seed: UInt64
    private static let failureCount = 30_000

    init(_ advisor: IntervalAdvisor, seed: UInt64) {
        self.advisor = advisor
        self.seed = seed
    }

    /// The fraction of the time that was lost. The same failures strike whatever the interval is.
    mutating func loss(of interval: Double) -> Double {
        var random = SeededGenerator(seed: seed)
        var (wall, kept) = (0.0, 0.0)
        for _ in 0..<Self.failureCount {
            // Restarts until one goes through.
            var life = random.exponential(advisor.meanTimeBetweenFailures)
            while life < advisor.timeToRestart {
                wall += life
                life = random.exponential(advisor.meanTimeBetweenFailures)
            }
            wall += life
            // Trains until the failure: what is durable by then is kept.
            var clock = advisor.timeToRestart
            while true {
                clock += interval
                guard clock + advisor.timeToDurable <= life else { break }
                kept += interval
                clock += advisor.stall
            }
        }
        return 1 - kept / wall
    }
}

extension SeededGenerator {
    fileprivate mutating func exponential(_ mean: Double) -> Double {
        -mean * log((Double(next() >> 11) + 1) * 0x1p-53)
    }
}
