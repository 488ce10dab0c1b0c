import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// What happens when training is faster than the storage.
@Suite struct BackPressureTests {
    private let pool = BufferPool(idleLimit: 1 << 24)
    private let storage = ManagedStorage()

    private func pipeline(
        _ backPressure: SnapshotOptions.BackPressure, _ change: (inout SnapshotOptions) -> Void = { _ in }
    ) -> SnapshotPipeline {
        var options = SnapshotOptions()
        options.backPressure = backPressure
        change(&options)
        return SnapshotPipeline(CheckpointStore(storage: storage, name: "managed"), pool: pool, options: options)
    }

    private func tensor(_ value: Float) throws -> Tensor {
        try Tensor(.f32, [1024], pool: pool) { bytes in
            for index in 0..<1024 { bytes.storeBytes(of: value, toByteOffset: 4 * index, as: Float.self) }
        }
    }

    /// Two tensors of a page each.
    private func state() throws -> TrainingState {
        var state = TrainingState()
        state.set(try tensor(1), for: "a")
        state.set(try tensor(2), for: "b")
        return state
    }

    @Test func anUpdateOfADrainedTensorGoesInPlaceAndOneOfAHeldTensorDoesNot() throws {
        let pipeline = pipeline(.wait(upTo: .seconds(60)))
        var state = try state()
        let before = try state.tensor("a")
        storage.close()
        let snapshot = pipeline.snapshot(state, step: 1)
        #expect(before.sharesBytes(with: try state.tensor("a")))
        try update(&state, "a", adding: 1, pool: pool)
        #expect(pool.copyStatistics.copyCount == 1)
        #expect(pool.copyStatistics.heldByteCount == 4096)
        storage.open()
        #expect(snapshot.wait()?.isCommitted == true)
        try update(&state, "b", adding: 1, pool: pool)
        #expect(pool.copyStatistics.copyCount == 1)
        withExtendedLifetime(before) {}
        #expect(snapshot.report?.timeline.copyCount == 1)
        #expect(snapshot.report?.timeline.copiedByteCount == 4096)
    }

    @Test func anUpdateWaitsUntilTheBudgetHasRoom() throws {
        let pipeline = pipeline(.wait(upTo: .seconds(60))) { $0.byteBudget = 4096 }
        var state = try state()
        storage.close()
        let snapshot = pipeline.snapshot(state, step: 1)
        try update(&state, "a", adding: 1, pool: pool)
        let shared = state
        state = TrainingState()
        let thread = ThreadPool(threadCount: 1)
        let done = Monitor(false)
        let pool = self.pool
        thread.submit {
            var state = shared
            try? update(&state, "b", adding: 1, pool: pool)
            done.change { $0 = true }
        }
        storage.awaitWaiter()
        #expect(done.wait(until: .now + .milliseconds(50)) { $0 ? true : nil } == nil)
        #expect(pool.copyStatistics.heldByteCount == 4096)
        storage.open()
        #expect(done.wait { $0 ? true : nil } == true)
        #expect(snapshot.wait()?.isCommitted == true)
        #expect(pool.copyStatistics.highWaterByteCount == 4096)
        #expect(pool.copyStatistics.waitCount >= 1)
    }

    @Test func impatientUpdatesGoBeyondTheBudget() throws {
        let pipeline = pipeline(.wait(upTo: .milliseconds(20))) { $0.byteBudget = 0 }
        var state = try state()
        storage.close()
        let snapshot = pipeline.snapshot(state, step: 1)
        try update(&state, "a", adding: 1, pool: pool)
        #expect(pool.copyStatistics.heldByteCount == 4096 && pool.copyStatistics.waitCount == 1)
        storage.open()
        #expect(snapshot.wait()?.isCommitted == true)
    }

    @Test func underSkipAnUpdateThatNeedsMemoryGivesUpTheOldestSnapshot() throws {
        let pipeline = pipeline(.skip) { $0.byteBudget = 4096 }
        var state = try state()
        storage.close()
        let snapshot = pipeline.snapshot(state, step: 1)
        try update(&state, "a", adding: 1, pool: pool)
        try update(&state, "b", adding: 1, pool: pool)
        storage.open()
        let outcome = try #require(snapshot.wait())
        guard case .skipped(let reason) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(reason.contains("memory"))
        #expect(pipeline.drain())
        #expect(try pipeline.store.steps().isEmpty)
        #expect(try storage.list("").isEmpty)
        #expect(pool.copyStatistics.heldByteCount == 0)
    }

    @Test func underSkipASnapshotWithoutAPlaceIsSkippedAndTheOthersAreSaved() throws {
        let pipeline = pipeline(.skip) { $0.maximumInFlight = 1 }
        storage.close()
        let state = try state()
        let first = pipeline.snapshot(state, step: 1)
        let second = pipeline.snapshot(state, step: 2)
        storage.open()
        #expect(first.wait()?.isCommitted == true)
        guard case .skipped? = second.wait() else {
            Issue.record("\(String(describing: second.outcome))")
            return
        }
        #expect(pipeline.drain())
        #expect(try pipeline.store.steps() == [1])
        #expect(pipeline.takeReports().map(\.step).sorted() == [1, 2])
        #expect(pipeline.takeReports().isEmpty)
    }

    @Test func underGrowNothingWaitsAndNothingIsSkipped() throws {
        let pipeline = pipeline(.grow) {
            $0.byteBudget = 0
            $0.maximumInFlight = 1
        }
        storage.close()
        var state = try state()
        var snapshots: [Snapshot] = []
        for step in 1...5 {
            snapshots.append(pipeline.snapshot(state, step: step))
            try update(&state, "a", adding: 1, pool: pool)
            try update(&state, "b", adding: 1, pool: pool)
        }
        #expect(pool.copyStatistics.heldByteCount == 5 * 8192)
        storage.open()
        for snapshot in snapshots { #expect(snapshot.wait()?.isCommitted == true) }
        #expect(pool.copyStatistics.waitCount == 0)
    }

    @Test func aCancelledSnapshotLetsGoAndLeavesNothing() throws {
        let pipeline = pipeline(.grow)
        storage.close(after: 1)
        let snapshots = [1, 2].map { step in try? pipeline.snapshot(state(), step: step) }
        storage.awaitWaiter()
        pipeline.cancelAll()
        storage.open()
        #expect(pipeline.drain())
        for snapshot in snapshots {
            guard case .cancelled? = snapshot?.outcome else {
                Issue.record("\(String(describing: snapshot?.outcome))")
                continue
            }
        }
        #expect(try storage.list("").isEmpty)
    }

    @Test func failuresAreValuesAndLaterSnapshotsWork() throws {
        let pipeline = pipeline(.grow)
        let state = try state()
        #expect(pipeline.snapshot(state, step: 1).wait()?.isCommitted == true)
        for code in [CairnError.Code.noSpace, .inputOutput] {
            storage.fail(CairnError(code, "as asked"))
            guard case .failed(let error)? = pipeline.snapshot(state, step: 2).wait() else {
                Issue.record("no failure")
                continue
            }
            #expect(error.code == code)
            #expect(try pipeline.store.steps() == [1])
        }
        storage.fail(nil)
        #expect(pipeline.snapshot(state, step: 2).wait()?.isCommitted == true)
        // A step that is there already is refused, and stays.
        guard case .failed(let error)? = pipeline.snapshot(try self.state(), step: 2).wait() else {
            Issue.record("no failure")
            return
        }
        #expect(error.code == .alreadyExists)
        #expect(try pipeline.store.load(step: 2) == state)
    }

    @Test func retentionFollowsEachCommit() throws {
        let pipeline = pipeline(.wait(upTo: .seconds(60))) { $0.retention = RetentionPolicy(keepLast: 2) }
        for step in 1...6 { #expect(pipeline.snapshot(try state(), step: step).wait()?.isCommitted == true) }
        #expect(pipeline.drain())
        #expect(try pipeline.store.steps() == [5, 6])
        // Timelines go with their checkpoints.
        #expect(try storage.list("").filter { $0.key.hasSuffix("timeline.json") }.count == 2)
    }

    @Test func aReleasedPipelineEndsWhatItHasTaken() throws {
        let store = CheckpointStore(storage: storage, name: "managed")
        storage.close()
        var pipeline: SnapshotPipeline? = SnapshotPipeline(store)
        let snapshot = try #require(pipeline?.snapshot(try state(), step: 1))
        pipeline = nil
        storage.open()
        #expect(snapshot.wait()?.isCommitted == true)
        #expect(try store.steps() == [1])
    }
}
