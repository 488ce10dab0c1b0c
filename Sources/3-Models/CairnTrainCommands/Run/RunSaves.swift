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
    /// What drains into the keeper.
    private let kept: SnapshotPipeline?
    /// What protects saved checkpoints, on the rank that speaks.
    private let protection: RunProtection?
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
        _ plan: RunPlan, _ pipeline: SnapshotPipeline, kept: SnapshotPipeline?, from step: Int,
        began: ContinuousClock.Instant, isFirst: Bool
    ) {
        self.plan = plan
        self.pipeline = pipeline
        self.kept = kept
        self.isFirst = isFirst
        protection = isFirst ? RunProtection(plan) : nil
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

    /// Whether the state after a step goes to the keeper.
    func isKept(after step: Int) -> Bool { kept != nil && plan.keeper.map { step % $0.every == 0 } ?? false }

    /// Takes a snapshot for the keeper, which is drained while the run trains on.
    ///
    /// - Parameter log: As for ``save(step:options:log:_:)``.
    func keep(
        step: Int, options: SaveOptions, log: LossLog?, _ take: (SnapshotPipeline, SaveOptions) throws -> Snapshot
    ) rethrows {
        guard let kept else { return }
        var options = options
        // Memory is as fast as looking.
        options.reusesUnchanged = false
        if let log { options.progress = Self.first({ try log.write() }, then: options.progress) }
        let start = ContinuousClock.now
        _ = try take(kept, options)
        stall.noteCall(.now - start)
    }

    /// Says what has become of snapshots.
    func noteReports() {
        for report in kept?.takeReports() ?? [] where isFirst && !report.outcome.isCommitted {
            plan.note("step \(report.step) is not in the keeper: \(report.outcome)")
        }
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
        protection?.protect(step: report.step)
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
        kept?.drain()
        pipeline.drain()
        noteReports()
        protection?.finish()
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

/// A save that stands still when one rank has written half of its bytes, so that the process can be killed in it.
struct SaveHold: Sendable {
    var step: Int
    var rank = 0

    /// What a save calls with the bytes it has just written.
    func progress(byteCount: Int) -> @Sendable (Int) throws -> Void {
        let written = WrittenBytes()
        return { [step] count in
            guard written.total.add(count, ordering: .relaxed).newValue >= byteCount / 2 else { return }
            if !written.isAnnounced.exchange(true, ordering: .relaxed) {
                say("holding the save of step \(step) in process \(getpid())")
            }
            while true { sleep(60) }
        }
    }
}

private final class WrittenBytes: Sendable {
    let total = Atomic(0)
    let isAnnounced = Atomic(false)
}

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
