import ArgumentParser

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
