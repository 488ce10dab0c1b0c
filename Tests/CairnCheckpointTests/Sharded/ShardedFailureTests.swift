import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// Saves of several ranks in which something goes wrong: nothing is committed, what was there stays, and every rank hears
/// of the rank that failed.
@Suite struct ShardedFailureTests {
    private let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
    private let old = ShardedSample(seed: 1)
    private let new = ShardedSample(seed: 2)

    /// Each rank's error of a save as step 2, in a store that has a step 1.
    private func failures(
        _ body: @escaping @Sendable (any Communicator, ShardedStore) throws -> Void
    ) throws -> [CairnError?] {
        if try store.steps().isEmpty { try old.save(in: store, step: 1) }
        let outcomes = try ShardedSample.outcomes { [store] communicator in
            try body(communicator, ShardedStore(store, over: communicator))
        }
        #expect(try store.steps() == [1])
        #expect(try store.load(step: 1) == old.whole())
        // What is left of the failed save is not in the way.
        _ = try store.prune(RetentionPolicy(), debrisAge: -10)
        #expect(try Set(store.storage.list("").map(\.key)) == store.committedKeys())
        return outcomes
    }

    @Test(arguments: [0, 1])
    func aRankThatLacksATensorIsNamedToAll(culprit: Int) throws {
        let errors = try failures { [new] communicator, store in
            var state = try new.part(ofRank: communicator.rank)
            if communicator.rank == culprit {
                state = try ShardedState(rank: culprit, rankCount: 2, tensors: ShardedSample.tensors())
                state.values = [NamedValue(name: "seed", value: .integer(2))]
            }
            try store.save(state, step: 2)
        }
        for error in errors {
            #expect(error?.code == .incomplete, "\(String(describing: error))")
            #expect(error?.context.rank == culprit)
            #expect(error?.context.tensor == "matrix")
        }
    }

    @Test(arguments: [0, 1])
    func aRankThatThrowsInTheMiddleIsNamedToAll(culprit: Int) throws {
        let errors = try failures { [new] communicator, store in
            var options = SaveOptions()
            if communicator.rank == culprit {
                options.progress = { _ in throw CairnError(.noSpace, "the disk is full") }
            }
            try store.save(new.part(ofRank: communicator.rank), step: 2, options: options)
        }
        for error in errors {
            #expect(error?.code == .noSpace, "\(String(describing: error))")
            #expect(error?.context.rank == culprit)
        }
    }

    @Test func aRankThatSavesAnotherStepIsNamedToAll() throws {
        let errors = try failures { [new] communicator, store in
            try store.save(new.part(ofRank: communicator.rank), step: 2 + communicator.rank)
        }
        for error in errors {
            #expect(error?.code == .mismatch && error?.context.rank == 1, "\(String(describing: error))")
            #expect(error?.context.expected == "step 2, as rank 0" && error?.context.found == "step 3")
        }
    }

    @Test func aRankThatSavesAnotherStateIsNamedToAll() throws {
        let errors = try failures { [new] communicator, store in
            var state = try new.part(ofRank: communicator.rank)
            if communicator.rank == 1 { state.values = [NamedValue(name: "seed", value: .integer(3))] }
            try store.save(state, step: 2)
        }
        for error in errors {
            #expect(error?.code == .mismatch && error?.context.rank == 1, "\(String(describing: error))")
            #expect(error?.message.contains("another state") == true)
        }
    }

    /// Not the ranks that differ from rank 0: rank 0 may be the one that is wrong.
    @Test(arguments: [0, 1, 2], [true, false])
    func ofThreeRanksTheOneThatDiffersFromMostIsNamed(culprit: Int, differsInStep: Bool) throws {
        let tensor = PlacedTensor(
            name: "w", scalarType: .f32, shape: [6], layout: try Layout(DeviceMesh(["dp": 3]), ["dp": .shard(0)]))
        let errors = try ThreadCommunicator.run(ranks: 3) { [store] communicator -> CairnError? in
            let isOdd = communicator.rank == culprit
            var state = try ShardedState(rank: communicator.rank, rankCount: 3, tensors: [tensor])
            try state.set(Tensor([1, 2] as [Float]), for: "w")
            state.values = [NamedValue(name: "epoch", value: .integer(isOdd && !differsInStep ? 2 : 1))]
            do {
                let sharded = try ShardedStore(store, over: communicator)
                try sharded.save(state, step: isOdd && differsInStep ? 8 : 7)
                return nil
            } catch { return error as? CairnError }
        }
        for error in errors {
            #expect(error?.code == .mismatch && error?.context.rank == culprit, "\(String(describing: error))")
            #expect(error?.message.contains(differsInStep ? "another step" : "another state") == true)
            #expect(error?.context.expected?.hasSuffix(culprit == 0 ? "as rank 1" : "as rank 0") == true)
        }
        #expect(try store.steps().isEmpty)
    }

    @Test func aRankWithAStateOfAnotherRankIsNamedToAll() throws {
        let errors = try failures { [new] _, store in try store.save(new.part(ofRank: 0), step: 2) }
        for error in errors { #expect(error?.context.rank == 1, "\(String(describing: error))") }
    }

    /// Call 0 shares the save id, 1 gathers the ranks' reports, 2 broadcasts the outcome.
    @Test(arguments: [(0, 0), (0, 1), (1, 0), (1, 1)])
    func aCommunicatorThatFailsBeforeTheCommitCommitsNothing(call: Int, culprit: Int) throws {
        try old.save(in: store, step: 1)
        let errors = try ShardedSample.outcomes { [store, new] base in
            let communicator: any Communicator =
                base.rank == culprit ? FailingCommunicator(base, failingCall: call) : base
            try ShardedStore(store, over: communicator).save(new.part(ofRank: base.rank), step: 2)
        }
        for error in errors { #expect(error?.context.rank == culprit, "\(String(describing: error))") }
        #expect(try store.steps() == [1])
        #expect(try store.load(step: 1) == old.whole())
    }

    @Test(arguments: [0, 1])
    func aCommunicatorThatFailsAfterTheCommitLeavesTheWholeNewCheckpoint(culprit: Int) throws {
        try old.save(in: store, step: 1)
        let errors = try ShardedSample.outcomes { [store, new] base in
            let communicator: any Communicator = base.rank == culprit ? FailingCommunicator(base, failingCall: 2) : base
            try ShardedStore(store, over: communicator).save(new.part(ofRank: base.rank), step: 2)
        }
        // The rank that was not told cannot know; nothing of the checkpoint is lost by that.
        #expect(errors[0] == nil && errors[1]?.context.rank == culprit, "\(errors)")
        #expect(try store.load(step: 1) == old.whole())
        #expect(try store.load(step: 2) == new.whole())
    }

    @Test func whateverADiskKeepsOfShardedSavesIsTheOldOrTheNewCheckpointWhole() throws {
        let disk = SimulatedDisk()
        let store = CheckpointStore(on: disk)
        disk.startHistory()
        let life: [(seed: Int, step: Int)] = [(1, 10), (2, 20), (3, 20), (4, 30)]
        var contents: [[Int: TrainingState]] = [[:]]
        for (seed, step) in life {
            try ShardedSample(seed: seed).save(in: store, step: step, replacing: seed == 3)
            disk.passMilestone()
            var next = contents[contents.count - 1]
            next[step] = try ShardedSample(seed: seed).whole()
            contents.append(next)
        }
        var count = 0
        for point in disk.crashPoints {
            let before = contents[point.milestone]
            let after = contents[min(point.milestone + 1, contents.count - 1)]
            for policy in CrashPolicy.allCases {
                for seed in policy == .losePending || policy == .keepPending ? 0..<1 : 0..<UInt64(3) {
                    let place = "\(point), \(policy), seed \(seed)"
                    let survivor = CheckpointStore(on: point.crash(policy, seed: seed))
                    var found: [Int: TrainingState] = [:]
                    for step in try survivor.steps() {
                        let state = try survivor.load(step: step, options: sequentialLoad)
                        #expect(state == before[step] || state == after[step], "\(place): step \(step) is a mixture")
                        found[step] = state
                    }
                    for step in before.keys { #expect(found[step] != nil, "\(place): step \(step) is gone") }
                    count += 1
                }
            }
        }
        #expect(count > 200, "\(count)")
    }
}
