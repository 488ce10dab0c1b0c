import ArgumentParser
package import CairnSnapshot

/// When a run saves.
package struct SaveTiming {
    /// Without advice yet, a run saves after so many steps: soon, because what a save costs is only known then.
    package static let firstInterval = 10

    package let interval: SaveInterval
    /// The last step, which is always saved.
    package let end: Int
    /// The last step that was saved, or that the run began with.
    private var lastSave: Int
    /// What the advisor said last.
    package private(set) var advice: IntervalAdvice?

    package init(_ interval: SaveInterval, from step: Int, to end: Int) {
        self.interval = interval
        self.end = end
        lastSave = step
    }

    /// Whether the state after a step is saved.
    package func isDue(after step: Int) -> Bool {
        if step == end { return true }
        switch interval {
        case .steps(let count): return step % count == 0
        case .advised: return step - lastSave >= advice?.steps ?? Self.firstInterval
        }
    }

    package mutating func noteSave(of step: Int) { lastSave = step }

    /// Asks for advice, given what has been measured.
    ///
    /// - Parameters:
    ///   - slowdown: How many seconds longer than others the steps beside a snapshot took, in all.
    ///   - timeToRestart: In seconds.
    ///   - stepTime: In seconds.
    /// - Returns: The advice if it differs from the last by a fifth or more, and is worth telling.
    package mutating func follow(
        _ timelines: [SnapshotTimeline], slowdown: Double, timeToRestart: Double, stepTime: Double
    ) -> IntervalAdvice? {
        guard case .advised(let meanTime) = interval,
            var advisor = IntervalAdvisor(
                timelines, timeToRestart: timeToRestart, stepTime: stepTime, meanTimeBetweenFailures: meanTime)
        else { return nil }
        advisor.stall += slowdown
        // A clock that stands still gives no advice; the interval remains.
        guard let new = try? advisor.advise() else { return nil }
        let old = advice?.steps
        advice = new
        guard let old else { return new }
        return abs(new.steps - old) * 5 >= old ? new : nil
    }
}

/// How far apart the saves of a run are.
package enum SaveInterval: Sendable, Hashable {
    /// So many steps.
    case steps(Int)
    /// As the interval advisor says, from what saves cost and how often the job fails, in seconds.
    case advised(meanTimeBetweenFailures: Double)
}

/// What is typed for it: a number of steps, or `auto`.
enum SaveIntervalArgument: Hashable, ExpressibleByArgument {
    case steps(Int)
    case auto

    init?(argument: String) {
        if argument == "auto" {
            self = .auto
        } else if let steps = Int(argument), steps > 0 {
            self = .steps(steps)
        } else {
            return nil
        }
    }

    var defaultValueDescription: String {
        switch self {
        case .steps(let steps): "\(steps)"
        case .auto: "auto"
        }
    }
}

/// A length of time as it is typed: `90`, `90s`, `15m`, `6h`, `30d`.
struct TimeArgument: Hashable, ExpressibleByArgument {
    var seconds: Double

    init?(argument: String) {
        let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        let unit = argument.last.flatMap { units[$0] }
        guard let number = Double(unit == nil ? argument : String(argument.dropLast())) else { return nil }
        seconds = number * (unit ?? 1)
        guard seconds.isFinite, seconds > 0 else { return nil }
    }
}
