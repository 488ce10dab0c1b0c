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
