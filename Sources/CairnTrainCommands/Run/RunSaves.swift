import Cairn
import CairnSnapshot
import CairnTrain
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How a run saves: by snapshots that are drained while it trains on, or by saves that it waits for.
final class RunSaves {
    private let plan: RunPlan
    private let pipeline: SnapshotPipeline
    /// Whether this rank speaks and prunes.
    private let isFirst: Bool
    private var stall: StallMeter
    private var timing: SaveTiming
    private var timelines: [SnapshotTimeline] = []
    /// How long it took to get ready, in seconds: what a restart costs.
    private let timeToStart: Double
    /// The newest step whose snapshot did not become a checkpoint, and why.
    private(set) var lastFailure: (step: Int, outcome: SnapshotOutcome)?

    /// - Parameters:
    ///   - step: Where the run continues from.
    ///   - began: When the run began to load what it needs.
    init(
        _ plan: RunPlan, _ pipeline: SnapshotPipeline, from step: Int, began: ContinuousClock.Instant, isFirst: Bool
    ) {
        self.plan = plan
        self.pipeline = pipeline
        self.isFirst = isFirst
        stall = StallMeter()
        timing = SaveTiming(plan.saveEvery, from: step, to: plan.end)
        timeToStart = (ContinuousClock.now - began) / .seconds(1)
    }

    /// Whether the state after a step is saved. With an advised interval the first rank's answer counts.
    func isDue(after step: Int) -> Bool { timing.isDue(after: step) }

    /// How a pipeline of this run works.
    static func pipelineOptions(_ plan: RunPlan) -> SnapshotOptions {
        var options = SnapshotOptions()
        options.byteBudget = plan.snapshotMegabytes.map { $0 << 20 } ?? .max
        return options
    }

    /// Times a step.
    func step<Result>(_ body: () throws -> Result) rethrows -> Result {
        let isDraining = stall.hasOpenSnapshots
        let start = ContinuousClock.now
        let result = try body()
        stall.noteStep(.now - start, whileDraining: isDraining)
        return result
    }

    /// Takes a snapshot, and waits for it where the plan says so.
    ///
    /// - Parameter log: The losses up to the step; they are durable before the checkpoint is.
    func save(
        step: Int, options: SaveOptions, log: LossLog?, _ take: (SnapshotPipeline, SaveOptions) throws -> Snapshot
    ) rethrows {
        var options = options
        if let log { options.progress = Self.first({ try log.write() }, then: options.progress) }
        let start = ContinuousClock.now
        let snapshot = try take(pipeline, options)
        if plan.hasBlockingSaves { snapshot.wait() }
        stall.noteCall(.now - start)
        timing.noteSave(of: step)
        noteReports()
    }

    /// Says what has become of snapshots.
    func noteReports() {
        for report in pipeline.takeReports() {
            stall.noteEnd(report.timeline)
            // The advisor looks at the last ones only.
            timelines = timelines.suffix(63) + [report.timeline]
            if report.outcome.isCommitted {
                if isFirst { note(report) }
            } else {
                lastFailure = (report.step, report.outcome)
                if isFirst { plan.note("step \(report.step) was not saved: \(report.outcome)") }
            }
            followAdvice()
        }
    }

    /// Lets the interval follow what has been measured since.
    private func followAdvice() {
        guard let stepTime = stall.stepTime else { return }
        let advice = timing.follow(
            timelines, slowdown: stall.slowdown, timeToRestart: timeToStart, stepTime: stepTime)
        guard isFirst, let advice else { return }
        plan.note(
            "a snapshot every \(advice.steps) steps from now on"
                + (advice.isBoundByDurability ? ", as soon as the last one is durable" : "")
                + ": expected to lose \(decimal(advice.loss.total * 100)) % of the time")
    }

    private func note(_ report: SnapshotReport) {
        plan.note("saved step \(report.step)")
        for warning in report.warnings { plan.note("  \(warning)") }
        do {
            _ = try plan.store.prune(RetentionPolicy(keepLast: plan.keepLast))
        } catch {
            plan.note("old checkpoints could not be pruned: \(error)")
        }
    }

    /// Waits until everything is saved.
    ///
    /// - Throws: What kept the last step from being saved.
    func finish(lastStep: Int) throws(CairnError) {
        pipeline.drain()
        noteReports()
        if isFirst, let line = stall.summary { plan.note(line) }
        guard let lastFailure, lastFailure.step == lastStep else { return }
        if case .failed(let error) = lastFailure.outcome { throw error }
        throw CairnError(
            .incomplete, "the last step was not saved", .init(file: plan.folder, found: "\(lastFailure.outcome)"))
    }

    /// What calls `once` at its first call, and `then` at every one.
    private static func first(
        _ once: @escaping @Sendable () throws -> Void, then: @escaping @Sendable (Int) throws -> Void
    ) -> @Sendable (Int) throws -> Void {
        let isFirst = Mutex(true)
        return { count in
            // Other threads wait, so that nothing is committed before.
            try isFirst.withLock { isFirst in
                if isFirst { try once() }
                isFirst = false
            }
            try then(count)
        }
    }
}
