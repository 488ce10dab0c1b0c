import CairnSnapshot

/// What saving costs a run: the calls, and how much slower steps are while a snapshot is being drained.
struct StallMeter {
    private var calls: [Duration] = []
    private var openCount = 0
    private var drainingSteps: [Duration] = []
    private var otherSteps: [Duration] = []
    private var updateWait = 0.0
    private var totals: [Double] = []

    /// Whether a snapshot is on its way, as far as its end has been noted.
    var hasOpenSnapshots: Bool { openCount > 0 }

    mutating func noteCall(_ duration: Duration) {
        calls.append(duration)
        openCount += 1
    }

    mutating func noteEnd(_ timeline: SnapshotTimeline) {
        openCount -= 1
        updateWait += timeline.updateWait
        totals.append(timeline.total)
    }

    mutating func noteStep(_ duration: Duration, whileDraining: Bool) {
        if whileDraining { drainingSteps.append(duration) } else { otherSteps.append(duration) }
    }

    /// How long a step takes without a snapshot beside it, in seconds; any step where there is no other.
    var stepTime: Double? {
        Self.median((otherSteps.isEmpty ? drainingSteps : otherSteps).map { $0 / .seconds(1) })
    }

    /// How many seconds longer than others the steps beside a snapshot take, for all steps of a snapshot together.
    var slowdown: Double {
        guard !totals.isEmpty, let draining = Self.median(drainingSteps.map { $0 / .seconds(1) }),
            let other = Self.median(otherSteps.map { $0 / .seconds(1) })
        else { return 0 }
        return max(0, draining - other) * Double(drainingSteps.count) / Double(totals.count)
    }

    /// A line for people; `nil` where nothing was saved.
    var summary: String? {
        guard let call = Self.median(calls.map { $0 / .seconds(1) }) else { return nil }
        var line = "stall: \(calls.count) snapshots, a call \(Self.milliseconds(call))"
        if let total = Self.median(totals) { line += ", durable after \(Self.milliseconds(total))" }
        if updateWait > 0 { line += ", updates waited \(Self.milliseconds(updateWait))" }
        if let draining = Self.median(drainingSteps.map { $0 / .seconds(1) }),
            let other = Self.median(otherSteps.map { $0 / .seconds(1) })
        {
            line += "; a step beside a snapshot \(Self.milliseconds(draining)), another \(Self.milliseconds(other))"
        }
        return line + " (medians)"
    }

    private static func median(_ values: [Double]) -> Double? {
        values.isEmpty ? nil : values.sorted()[values.count / 2]
    }

    private static func milliseconds(_ seconds: Double) -> String { decimal(seconds * 1000) + " ms" }
}
