import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// Saves over a disk whose power can go at every moment.
@Suite struct SaveCrashTests {
    private static let seeds: Range<UInt64> = 0..<4

    private func store(on disk: SimulatedDisk, _ writing: LocalWriting = .buffered) -> CheckpointStore {
        CheckpointStore(storage: LocalStorage(root: "/run", writing: writing, fileSystem: disk), name: "run")
    }

    private func state(_ first: Float) -> TrainingState {
        var state = TrainingState()
        state.set(Tensor((0..<1500).map { first + Float($0) }), for: "weight")
        state.set(.double(Double(first)), for: "loss")
        return state
    }

    private var options: SaveOptions {
        var options = SaveOptions()
        options.chunkByteCount = 4096
        // The simulated disk repeats itself only when one thread uses it.
        options.concurrency = 1
        options.saveID = SaveID("00112233445566778899aabbccddeeff")
        return options
    }

    /// Runs `work` after a first checkpoint is saved, and hands every state that a crash can leave to `check`, with
    /// whether `work` had returned.
    private func explore(
        _ writing: LocalWriting = .buffered, work: (CheckpointStore) throws -> Void,
        check: (CheckpointStore, Bool, String) throws -> Void
    ) throws -> Int {
        let disk = SimulatedDisk()
        try store(on: disk).save(state(1), step: 1, options: options)
        disk.startHistory()
        try work(store(on: disk, writing))
        disk.passMilestone()
        var count = 0
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in Self.seeds {
                    let survivor = store(on: point.crash(policy, seed: seed))
                    try check(survivor, point.milestone == 1, "\(point), \(policy), seed \(seed)")
                    count += 1
                }
            }
        }
        return count
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aSaveThatIsCutLeavesTheOlderCheckpointWholeAndTheNewOneWholeOrAbsent(_ writing: LocalWriting) throws {
        var outcomes = Set<Int>()
        let count = try explore(writing) { store in
            try store.save(state(2), step: 2, options: options)
        } check: { survivor, hasReturned, crash in
            #expect(try survivor.load(step: 1) == state(1), "\(crash)")
            let latest = try survivor.loadLatest()
            let (loaded, step, skipped) = (latest.state, latest.step, latest.skipped)
            #expect(skipped.isEmpty, "\(crash)")
            #expect(loaded == state(Float(step)), "\(crash)")
            #expect(step == 2 || !hasReturned, "\(crash)")
            outcomes.insert(step)
        }
        #expect(outcomes == [1, 2], "\(count) crashes")
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aReplacingSaveThatIsCutLeavesTheOldOrTheNewCheckpoint(_ writing: LocalWriting) throws {
        var outcomes = Set<Bool>()
        _ = try explore(writing) { store in
            var options = options
            options.replacing = true
            options.saveID = SaveID("ffeeddccbbaa99887766554433221100")
            try store.save(state(2), step: 1, options: options)
        } check: { survivor, hasReturned, crash in
            let loaded = try survivor.load(step: 1)
            #expect(loaded == state(1) || loaded == state(2), "\(crash)")
            #expect(loaded == state(2) || !hasReturned, "\(crash)")
            outcomes.insert(loaded == state(2))
        }
        #expect(outcomes == [false, true])
    }

    @Test func aDeletionThatIsCutLeavesAWholeCheckpointOrNone() throws {
        var outcomes = Set<Bool>()
        _ = try explore { store in
            try store.delete(step: 1)
        } check: { survivor, hasReturned, crash in
            let isThere = try survivor.steps() == [1]
            #expect(!isThere || !hasReturned, "\(crash)")
            if isThere { #expect(try survivor.load(step: 1) == state(1), "\(crash)") }
            outcomes.insert(isThere)
        }
        #expect(outcomes == [false, true])
    }
}
