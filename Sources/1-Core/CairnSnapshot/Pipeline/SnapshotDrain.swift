import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Synchronization

/// The background of a pipeline: drains snapshots one after the other, each on several threads, and commits them side by
/// side.
final class SnapshotDrain: Sendable {
    private struct State {
        /// Taken and not yet released, oldest first.
        var holding: [SnapshotJob] = []
        /// Not yet ended.
        var openCount = 0
        /// Ended, and not yet asked for.
        var reports: [SnapshotReport] = []
        /// Those taken of which no report has been handed on yet, in the order in which they were taken; an entry has its report
        /// once it has ended.
        var order: [(snapshot: ObjectIdentifier, report: SnapshotReport?)] = []
        /// What became of the newest snapshot that has ended.
        var newest: (position: Int, report: SnapshotReport)?
        /// How many have been taken, and the position of each that has not ended.
        var takenCount = 0
        var positions: [ObjectIdentifier: Int] = [:]

        mutating func open(_ snapshot: Snapshot) {
            openCount += 1
            order.append((ObjectIdentifier(snapshot), nil))
            positions[ObjectIdentifier(snapshot)] = takenCount
            takenCount += 1
        }

        /// Hands on the reports of all that have ended before the first that has not.
        mutating func end(_ snapshot: Snapshot, _ report: SnapshotReport) {
            openCount -= 1
            let id = ObjectIdentifier(snapshot)
            if let position = positions.removeValue(forKey: id), position >= newest?.position ?? 0 {
                newest = (position, report)
            }
            if let index = order.firstIndex(where: { $0.snapshot == id && $0.report == nil }) { order[index].report = report }
            let ended = order.prefix { $0.report != nil }
            reports += ended.compactMap(\.report)
            order.removeFirst(ended.count)
            if reports.count > SnapshotDrain.maximumReportCount {
                reports.removeFirst(reports.count - SnapshotDrain.maximumReportCount)
            }
        }
    }

    /// Ended snapshots that are not asked for are forgotten beyond this many, oldest first.
    private static let maximumReportCount = 1024
    /// Commits that wait side by side. One that waits for other ranks only sleeps.
    private static let committerCount = 4
    /// Writers of a pipeline that is not told how many: as many as keep a device busy, on a small machine half its
    /// processors. A lower priority for them was measured and gains nothing: their work is done some time.
    private static let automaticWriterCount = max(2, min(4, ThreadPool.processorCount / 2))

    private let store: CheckpointStore
    private let options: SnapshotOptions
    private let commit: any SnapshotCommit
    private let budget: CopyBudget?
    private let queue = BlockingQueue<SnapshotJob>()
    private let writers: ThreadPool
    private let committers = ThreadPool(threadCount: committerCount)
    private let state = Monitor(State())
    /// Held while the store is tidied after a commit.
    private let housekeeping = Mutex(())

    init(_ store: CheckpointStore, _ options: SnapshotOptions, _ commit: any SnapshotCommit, budget: CopyBudget?) {
        self.store = store
        self.options = options
        self.commit = commit
        self.budget = budget
        // The thread that drains is one of the writers.
        writers = ThreadPool(threadCount: max(1, (options.writerCount ?? Self.automaticWriterCount) - 1))
    }

    /// Starts the thread that drains; it ends when all is drained after ``close()``.
    func start() {
        startThread {
            while let job = self.queue.pop() { self.drain(job) }
        }
    }

    func close() { queue.close() }

    // MARK: What training calls

    /// Waits for a free slot, as far as back-pressure allows.
    ///
    /// - Returns: Why there is none; `nil` when there is.
    func awaitSlot() -> String? {
        let limit = max(1, options.maximumInFlight)
        let patience: Duration
        switch options.backPressure {
        case .grow: return nil
        case .skip: patience = .zero
        case .wait(let duration): patience = duration
        }
        let isFree = state.wait(until: .now + patience) { $0.holding.count < limit ? true : nil } != nil
        return isFree ? nil : "\(limit) snapshots are being drained already"
    }

    func take(_ job: SnapshotJob) {
        state.change { state in
            state.holding.append(job)
            state.open(job.snapshot)
        }
        queue.push(job)
    }

    /// Ends a snapshot that was never taken.
    func refuse(_ snapshot: Snapshot, _ outcome: SnapshotOutcome, _ timeline: SnapshotTimeline, _ error: CairnError) {
        state.change { $0.open(snapshot) }
        committers.submit {
            self.commit.abandon(step: snapshot.step, saveID: snapshot.saveID, because: error)
            self.end(snapshot, SnapshotReport(step: snapshot.step, outcome: outcome, timeline: timeline))
        }
    }

    func takeReports() -> [SnapshotReport] {
        state.change { state in
            defer { state.reports = [] }
            return state.reports
        }
    }

    /// What became of the newest snapshot that has ended, if it is not a checkpoint and was not cancelled.
    var failure: CairnError? {
        guard let report = state.read(\.newest)?.report else { return nil }
        switch report.outcome {
        case .committed, .cancelled: return nil
        case .failed(let error): return error
        case .skipped(let reason):
            return CairnError(
                .incomplete, "the newest snapshot was skipped: \(reason)",
                .init(
                    file: store.name, expected: "a checkpoint of step \(report.step)",
                    advice: "save the state once more, or give snapshots more room"))
        }
    }

    func waitUntilIdle(upTo duration: Duration?) -> Bool {
        state.wait(until: duration.map { .now + $0 }) { $0.openCount == 0 ? true : nil } ?? false
    }

    func cancelAll() {
        for job in state.read(\.holding) {
            job.snapshot.cancel()
            job.release()
        }
    }

    /// Gives up the oldest snapshot that holds tensors, so that training need not wait for memory.
    func giveUpOldest() {
        guard let job = state.read({ $0.holding.first }) else { return }
        job.snapshot.giveUp("training needed the memory of its tensors")
        job.release()
    }

    // MARK: The background

    /// Hands a snapshot's bytes to the storage and releases each tensor as soon as its last byte is handed over.
    private func drain(_ job: SnapshotJob) {
        // At once: the call that woke this thread may be waiting for its processor.
        keepOffCaller(of: job)
        var timeline = job.timeline
        timeline.queue = .init(since: job.taken)
        let start = ContinuousClock.now
        var session: SaveSession?
        var builder: RankFileBuilder?
        do {
            try job.snapshot.checkCancellation()
            let (begun, made, content) = try begin(job)
            session = begun
            builder = made
            try write(job, content, made)
            release(job)
            timeline.drain = .init(since: start)
            timeline.encode = made.times.encode
            timeline.store = made.times.store
            timeline.note(job.copies, budget?.statistics)
            let known = timeline
            committers.submit { self.finish(job, begun, made, known) }
        } catch {
            release(job)
            builder?.discard()
            session?.cancel()
            fail(job, timeline, error)
        }
    }

    /// Only where what is called starts no threads of its own, which would be kept off as well, for as long as they live.
    private func keepOffCaller(of job: SnapshotJob) {
        if store.storage.isLocal { job.processor.keepOff() }
    }

    private func release(_ job: SnapshotJob) {
        job.release()
        state.change { $0.holding.removeAll { $0 === job } }
    }

    /// Begins the save, and the file with what of the snapshot has to be written.
    private func begin(_ job: SnapshotJob) throws -> (SaveSession, RankFileBuilder, SaveContent) {
        var options = job.options
        options.saveID = job.snapshot.saveID
        let session = try store.beginSave(step: job.snapshot.step, rankCount: job.content.rankCount, options: options)
        do {
            try session.setGlobal(of: job.content)
            let content = try session.withoutUnchanged(job.content)
            return (session, try session.builder(of: content), content)
        } catch {
            session.cancel()
            throw error
        }
    }

    private func write(_ job: SnapshotJob, _ content: SaveContent, _ builder: RankFileBuilder) throws {
        let snapshot = job.snapshot
        let progress = job.options.progress
        let budget = self.budget
        let writer = RankFileWriter(
            threads: writers, width: max(1, options.writerCount ?? min(Self.automaticWriterCount, builder.usefulConcurrency)),
            order: content.drainOrder(job.order),
            willWrite: {
                try snapshot.checkCancellation()
                self.keepOffCaller(of: job)
            },
            didRelease: { budget?.noteRelease() },
            progress: { byteCount in
                snapshot.noteWritten(byteCount)
                try progress(byteCount)
            })
        try writer.write(content.fragments, to: builder)
    }

    /// Makes the file durable and commits.
    private func finish(_ job: SnapshotJob, _ session: SaveSession, _ builder: RankFileBuilder, _ known: SnapshotTimeline) {
        var timeline = known
        do {
            try job.snapshot.checkCancellation()
            let start = ContinuousClock.now
            try builder.finish()
            timeline.durable = .init(since: start)
            let commitStart = ContinuousClock.now
            var ranks = try commit.commit(session, timeline, job.snapshot)
            timeline.commit = .init(since: commitStart)
            timeline.total = .init(since: job.taken)
            var report = SnapshotReport(
                step: job.snapshot.step, outcome: .committed(job.snapshot.saveID), timeline: timeline)
            if let aside = session.setAside { report.warnings.append(aside.warning) }
            // The checkpoint is there: nothing from here on takes it back.
            session.removeReplaced()
            do {
                if let own = ranks?.firstIndex(where: { $0.rank == timeline.rank }) { ranks?[own] = timeline }
                if let ranks { try keepTimelines(ranks, of: job.snapshot) }
            } catch {
                report.warnings.append(error)
            }
            end(job.snapshot, report)
        } catch {
            builder.discard()
            session.cancel()
            fail(job, timeline, error)
        }
    }

    /// Writes the timelines beside the manifest and applies the retention rule, one commit after the other: another one's
    /// retention may have deleted this checkpoint already, and a file in its folder would be debris.
    private func keepTimelines(_ ranks: [SnapshotTimeline], of snapshot: Snapshot) throws(CairnError) {
        try housekeeping.withLock { _ throws(CairnError) in
            if (try? store.open(step: snapshot.step).manifest.saveID) == snapshot.saveID {
                try TimelineFile.write(ranks, step: snapshot.step, saveID: snapshot.saveID, in: store)
            }
            if let retention = options.retention { _ = try store.prune(retention) }
        }
    }

    private func fail(_ job: SnapshotJob, _ timeline: SnapshotTimeline, _ error: any Error) {
        let failure = CairnError(wrapping: error, "the snapshot could not be saved")
        var timeline = timeline
        timeline.total = .init(since: job.taken)
        commit.abandon(step: job.snapshot.step, saveID: job.snapshot.saveID, because: failure)
        end(
            job.snapshot,
            SnapshotReport(step: job.snapshot.step, outcome: job.snapshot.outcome(of: failure), timeline: timeline))
    }

    private func end(_ snapshot: Snapshot, _ report: SnapshotReport) {
        options.observer?.snapshotEnded(report)
        snapshot.end(report)
        state.change { $0.end(snapshot, report) }
    }
}

extension Double {
    /// The seconds since `start`.
    init(since start: ContinuousClock.Instant) { self = (.now - start) / .seconds(1) }
}

extension SnapshotTimeline {
    /// Notes what training has paid since `before`.
    mutating func note(_ before: CopyStatistics, _ now: CopyStatistics?) {
        guard let now else { return }
        copyCount = now.copyCount - before.copyCount
        copiedByteCount = now.copiedByteCount - before.copiedByteCount
        updateWait = (now.waited - before.waited) / .seconds(1)
        heldHighWaterByteCount = now.highWaterByteCount
    }
}
