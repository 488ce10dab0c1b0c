import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// What a snapshot makes durable is the state at the call, whatever training does meanwhile.
@Suite struct SnapshotEqualityTests {
    @Test func aSnapshotIsTheVeryFilesOfABlockingSave() throws {
        var random = SimulationRandom(seed: 7)
        for compression in [Compression.none, .fast, .zstd()] {
            let state = try sampleState(&random, pool: nil)
            let options = smallChunks {
                $0.saveID = SaveID(using: &random)
                $0.time = 5
                $0.metrics = ["loss": 0.5]
                $0.compression = compression
            }
            let (blocking, lazy) = (MemoryStorage(), MemoryStorage())
            try CheckpointStore(storage: blocking, name: "blocking").save(state, step: 3, options: options)
            let pipeline = SnapshotPipeline(CheckpointStore(storage: lazy, name: "lazy"))
            let order = state.tensors.map(\.name).shuffled(using: &random)
            #expect(pipeline.snapshot(state, step: 3, options: options, order: order).wait()?.isCommitted == true)
            #expect(pipeline.drain())
            let keys = try blocking.list("").map(\.key)
            #expect(try lazy.list("").map(\.key).filter { !$0.hasSuffix("timeline.json") } == keys)
            for key in keys {
                #expect(try lazy.readAll(key, limit: 1 << 30) == blocking.readAll(key, limit: 1 << 30), "\(key)")
            }
        }
    }

    /// Random schedules of updates, snapshots, cancels, failing storage and waiting.
    @Test(arguments: [SnapshotOptions.BackPressure.wait(upTo: .seconds(60)), .skip, .grow])
    func whateverTheScheduleACommittedSnapshotIsTheStateAtTheCall(
        _ backPressure: SnapshotOptions.BackPressure
    ) throws {
        for seed in UInt64(1)...12 {
            var random = SimulationRandom(seed: seed)
            let pool = BufferPool(idleLimit: 1 << 22)
            let storage = ManagedStorage()
            let store = CheckpointStore(storage: storage, name: "seed \(seed)")
            var options = SnapshotOptions()
            options.backPressure = backPressure
            options.byteBudget = Int(random.next() % 500_000)
            options.maximumInFlight = Int(random.next() % 3) + 1
            options.writerCount = Int(random.next() % 3) + 1
            let pipeline = SnapshotPipeline(store, pool: pool, options: options)
            var state = try sampleState(&random, pool: pool)
            var taken: [(snapshot: Snapshot, expected: TrainingState)] = []
            for step in 1...40 {
                switch random.next() % 8 {
                case 0...3:
                    for _ in 0..<random.next() % 12 {
                        let name = "tensor.\(random.next() % 9)"
                        try update(&state, name, adding: UInt32(truncatingIfNeeded: random.next()), pool: pool)
                    }
                case 4...5:
                    let expected = try deepCopy(state)
                    let saveOptions = smallChunks { $0.compression = step % 3 == 0 ? .zstd() : step % 3 == 1 ? .fast : .none }
                    taken.append((pipeline.snapshot(state, step: step, options: saveOptions), expected))
                case 6:
                    if random.next() % 2 == 0 { taken.last?.snapshot.cancel() } else { pipeline.takeReports().forEach { _ in } }
                default:
                    storage.fail(random.next() % 2 == 0 ? CairnError(.noSpace, "full") : nil)
                }
            }
            storage.fail(nil)
            #expect(pipeline.drain(), "seed \(seed)")
            let steps = try store.steps()
            for (snapshot, expected) in taken {
                let outcome = try #require(snapshot.outcome, "seed \(seed): step \(snapshot.step) never ended")
                #expect(steps.contains(snapshot.step) == outcome.isCommitted, "seed \(seed): step \(snapshot.step) \(outcome)")
                guard outcome.isCommitted else { continue }
                #expect(try store.load(step: snapshot.step) == expected, "seed \(seed): step \(snapshot.step)")
                #expect(snapshot.progress.written == snapshot.progress.total)
            }
            #expect(pool.copyStatistics.heldByteCount == 0, "seed \(seed)")
            // The disk is well again, so the next one works.
            #expect(pipeline.snapshot(state, step: 99).wait()?.isCommitted == true, "seed \(seed)")
            #expect(try store.load(step: 99) == state, "seed \(seed)")
        }
    }

    @Test func valuesTiesMetricsAndLineageAreThereToo() throws {
        var random = SimulationRandom(seed: 3)
        let state = try sampleState(&random, pool: nil)
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        let pipeline = SnapshotPipeline(store)
        var options = SaveOptions()
        options.metrics = ["loss": 1.5]
        options.lineage = Lineage(operation: "training", parents: [])
        let snapshot = pipeline.snapshot(state, step: 1, options: options)
        #expect(snapshot.wait()?.isCommitted == true)
        let manifest = try store.open(step: 1).manifest
        #expect(manifest.metrics == ["loss": 1.5] && manifest.lineage?.operation == "training")
        #expect(manifest.saveID == snapshot.saveID)
        #expect(try store.load(step: 1) == state)
    }

    @Test func aTaskCanWaitWithoutBlocking() async throws {
        var random = SimulationRandom(seed: 4)
        let storage = ManagedStorage()
        storage.close()
        let pipeline = SnapshotPipeline(CheckpointStore(storage: storage, name: "memory"))
        let snapshot = pipeline.snapshot(try sampleState(&random, pool: nil), step: 1)
        #expect(snapshot.outcome == nil)
        async let outcome = snapshot.finished()
        storage.open()
        #expect(await outcome.isCommitted)
        #expect(await snapshot.finished().isCommitted)
    }
}
