import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// Ranks that snapshot the same steps, each in its own time.
@Suite struct SharedCommitTests {
    private static let rows = 12

    private static func tensors(ranks: Int) throws -> [PlacedTensor] {
        let mesh = try DeviceMesh(["dp": ranks])
        return [
            PlacedTensor(
                name: "matrix", scalarType: .f32, shape: [rows, 600], layout: try Layout(mesh, ["dp": .shard(0)])),
            PlacedTensor(
                name: "columns", scalarType: .f32, shape: [40, rows], layout: try Layout(mesh, ["dp": .shard(1)])),
            PlacedTensor(name: "vector", scalarType: .f32, shape: [5], layout: .replicated(on: mesh)),
        ]
    }

    private static func whole(_ seed: Int) throws -> TrainingState {
        var state = TrainingState()
        state.set(try Tensor((0..<rows * 600).map { Float(seed * 10_000 + $0) }, [rows, 600]), for: "matrix")
        state.set(try Tensor((0..<40 * rows).map { Float(seed * 1_000 - $0) }, [40, rows]), for: "columns")
        state.set(try Tensor((0..<5).map { Float(seed + $0) }, [5]), for: "vector")
        state.set(.integer(Int64(seed)), for: "seed")
        return state
    }

    private static func part(_ rank: Int, of ranks: Int, _ seed: Int) throws -> ShardedState {
        let placed = try tensors(ranks: ranks)
        return try ShardedState(rank: rank, rankCount: ranks, partOf: whole(seed)) { name, _ in
            guard let tensor = placed.first(where: { $0.name == name }) else {
                throw CairnError(.notFound, "no such tensor", .init(tensor: name))
            }
            return tensor.layout
        }
    }

    /// Runs `body` on every rank with a pipeline of its own.
    private func run(
        ranks: Int, _ storage: any Storage, _ change: @escaping @Sendable (inout SnapshotOptions, Int) -> Void = { _, _ in },
        _ body: @escaping @Sendable (SnapshotPipeline, Int) throws -> [SnapshotOutcome]
    ) throws -> [[SnapshotOutcome]] {
        return try ThreadCommunicator.run(ranks: ranks) { communicator in
            let store = try ShardedStore(CheckpointStore(storage: storage, name: "shared"), over: communicator)
            var options = SnapshotOptions()
            change(&options, communicator.rank)
            let pipeline = SnapshotPipeline(store, options: options)
            defer { pipeline.drain() }
            return try body(pipeline, communicator.rank)
        }
    }

    @Test(arguments: [2, 3])
    func everyRankInItsOwnTimeMakesOneCheckpoint(ranks: Int) throws {
        let storage = MemoryStorage()
        let outcomes = try run(ranks: ranks, storage, { options, _ in options.maximumInFlight = 5 }) { pipeline, rank in
            let snapshots = try (1...4).map { step in
                pipeline.snapshot(try Self.part(rank, of: ranks, step), step: step, options: smallChunks())
            }
            return snapshots.compactMap { $0.wait() }
        }
        for (rank, outcomes) in outcomes.enumerated() {
            #expect(outcomes.count == 4 && outcomes.allSatisfy(\.isCommitted), "rank \(rank): \(outcomes)")
        }
        let store = CheckpointStore(storage: storage, name: "shared")
        for step in 1...4 {
            #expect(try store.load(step: step) == Self.whole(step))
            #expect(try store.open(step: step).verify(deep: true).isValid)
        }
        // Notes are gone; what is left is the checkpoint and its timeline.
        #expect(try storage.list("").filter { $0.key.hasSuffix(".note") }.isEmpty)
        _ = try store.prune(RetentionPolicy(), debrisAge: -10)
        #expect(try storage.list("").count == 4 * (ranks + 2))
    }

    @Test func aRankThatCancelsMeansNoCommitAndEveryOutcomeNamesIt() throws {
        let storage = MemoryStorage()
        let outcomes = try run(ranks: 3, storage) { pipeline, rank in
            let options = smallChunks { options in
                // One rank stands still in the middle until it is cancelled.
                if rank == 1 { options.progress = { _ in throw CairnError(.noSpace, "as asked") } }
            }
            return [pipeline.snapshot(try Self.part(rank, of: 3, 1), step: 1, options: options).wait()].compactMap(\.self)
        }
        for (rank, outcomes) in outcomes.enumerated() {
            guard case .failed(let error)? = outcomes.first else {
                Issue.record("rank \(rank): \(outcomes)")
                continue
            }
            #expect(error.code == .noSpace, "rank \(rank): \(error)")
            if rank != 1 { #expect(error.context.rank == 1, "rank \(rank): \(error)") }
        }
        let store = CheckpointStore(storage: storage, name: "shared")
        #expect(try store.steps().isEmpty)
        _ = try store.prune(RetentionPolicy(), debrisAge: -10)
        #expect(try storage.list("").isEmpty)
    }

    @Test func aRankThatNeverComesIsNamedWhenTheTimeIsUp() throws {
        let storage = MemoryStorage()
        let outcomes = try run(
            ranks: 3, storage,
            { options, rank in
                // Rank 1 is told by rank 0, whose time begins when rank 1's part is there.
                options.commitTimeout = rank == 0 ? .milliseconds(100) : .seconds(600)
            }
        ) { pipeline, rank in
            guard rank != 2 else { return [] }
            if rank == 0 {
                try waitUntil("the note of rank 1") { try storage.list("").contains { $0.key.hasSuffix(".note") } }
            }
            return [pipeline.snapshot(try Self.part(rank, of: 3, 1), step: 1).wait()].compactMap(\.self)
        }
        guard case .failed(let error)? = outcomes[0].first else {
            Issue.record("\(outcomes)")
            return
        }
        #expect(error.code == .incomplete && error.context.rank == 2, "\(error)")
        guard case .failed? = outcomes[1].first else {
            Issue.record("\(outcomes)")
            return
        }
    }

    @Test func ranksThatSaveDifferentStatesDoNotCommit() throws {
        let outcomes = try run(ranks: 2, MemoryStorage()) { pipeline, rank in
            var state = try Self.part(rank, of: 2, 1)
            state.values = [NamedValue(name: "seed", value: .integer(Int64(rank)))]
            return [pipeline.snapshot(state, step: 1).wait()].compactMap(\.self)
        }
        for outcomes in outcomes {
            guard case .failed(let error)? = outcomes.first else {
                Issue.record("\(outcomes)")
                continue
            }
            #expect(error.code == .mismatch && error.context.rank == 1, "\(error)")
        }
    }

    @Test func aRankLearnsOfACommitAlthoughRetentionWasFasterThanIt() throws {
        let storage = MemoryStorage()
        let outcomes = try run(
            ranks: 3, storage,
            { options, _ in
                options.retention = RetentionPolicy(keepLast: 1)
                options.maximumInFlight = 40
            }
        ) { pipeline, rank in
            let snapshots = try (1...30).map { step in
                pipeline.snapshot(try Self.part(rank, of: 3, step), step: step, options: smallChunks())
            }
            return snapshots.compactMap { $0.wait() }
        }
        #expect(outcomes.allSatisfy { $0.count == 30 && $0.allSatisfy(\.isCommitted) }, "\(outcomes)")
        #expect(try storage.list("").filter { $0.key.hasSuffix(".note") }.isEmpty)
    }

    @Test func aSlowRankDelaysTheCommitAndNothingElse() throws {
        let storage = MemoryStorage()
        let gate = Monitor(false)
        let outcomes = try run(ranks: 2, storage, { options, _ in options.maximumInFlight = 1 }) { pipeline, rank in
            let options = smallChunks { options in
                if rank == 1 { options.progress = { _ in _ = gate.wait { $0 ? true : nil } } }
            }
            let first = pipeline.snapshot(try Self.part(rank, of: 2, 1), step: 1, options: options)
            if rank == 0 {
                // Its own part is drained and released, so that the next finds a free slot although nothing is committed.
                let second = pipeline.snapshot(try Self.part(rank, of: 2, 2), step: 2)
                #expect(first.outcome == nil)
                gate.change { $0 = true }
                return [first.wait(), second.wait()].compactMap(\.self)
            }
            let second = pipeline.snapshot(try Self.part(rank, of: 2, 2), step: 2)
            return [first.wait(), second.wait()].compactMap(\.self)
        }
        #expect(outcomes.allSatisfy { $0.count == 2 && $0.allSatisfy(\.isCommitted) }, "\(outcomes)")
    }
}
