import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Copies of committed checkpoints from store to store.
@Suite struct TierReplicationTests {
    private let source = CheckpointStore.inMemory("source")

    /// The ways in which a checkpoint may be stored.
    private static let kinds: [(ranks: Int, compression: Compression)] = [(1, .none), (3, .none), (2, .zstd()), (2, .fast)]

    @Test(arguments: 0..<3)
    func aCopyIsTheSameToTheByte(kind: Int) throws {
        let (ranks, compression) = Self.kinds[kind]
        let state = try tierState(7)
        try saveTierState(state, step: 5, ranks: ranks, in: source, tierOptions(1) { $0.compression = compression })
        let target = CheckpointStore.inMemory("target")
        let manifest = try source.replicate(step: 5, to: target)
        #expect(try target.load(step: 5) == state)
        #expect(try target.objects(ofStep: 5) == source.objects(ofStep: 5))
        #expect(try target.open(step: 5).manifest == manifest)
        #expect(try target.open(step: 5).verify(deep: true).isValid)
    }

    @Test func aCopyThatIsThereIsLeftAlone() throws {
        let disk = SimulatedDisk()
        let target = CheckpointStore(tier: disk)
        try source.save(tierState(1), step: 1, options: tierOptions(1))
        try source.replicate(step: 1, to: target)
        let used = disk.files
        try source.replicate(step: 1, to: target)
        #expect(disk.files == used)
        try target.damage("rank", ofStep: 1) { $0.removeLast() }
        let counter = Monitor(0)
        var options = ReplicationOptions()
        options.progress = { count in counter.change { $0 += count } }
        try source.replicate(step: 1, to: target, options: options)
        #expect(counter.read { $0 } > 10_000)
        #expect(try target.load(step: 1) == tierState(1))
    }

    @Test func anotherSaveOfTheStepIsReplacedOnlyOnRequest() throws {
        let target = CheckpointStore.inMemory("target")
        try saveTierState(tierState(1), step: 4, ranks: 2, in: target, tierOptions(1))
        try source.save(tierState(2), step: 4, options: tierOptions(2))
        let before = try target.objects(ofStep: 4)
        let error = #expect(throws: CairnError.self) { try source.replicate(step: 4, to: target) }
        #expect(error?.code == .alreadyExists)
        #expect(try target.objects(ofStep: 4) == before)
        var options = ReplicationOptions()
        options.replacing = true
        try source.replicate(step: 4, to: target, options: options)
        #expect(try target.load(step: 4) == tierState(2))
        #expect(try target.objects(ofStep: 4).count == 2, "the old files are gone")
    }

    @Test func theSaveThatWasMeantIsCopiedOrNone() throws {
        let target = CheckpointStore.inMemory("target")
        try source.save(tierState(1), step: 1, options: tierOptions(1))
        var options = ReplicationOptions()
        options.saveID = SaveID()
        let error = #expect(throws: CairnError.self) { try source.replicate(step: 1, to: target, options: options) }
        #expect(error?.code == .mismatch)
        let missing = #expect(throws: CairnError.self) { try source.replicate(step: 2, to: target) }
        #expect(missing?.code == .notFound)
        #expect(try target.storage.list("").isEmpty)
    }

    @Test func damageIsNotPassedOn() throws {
        for rank in 0..<2 {
            for position in ["header", "data", "length"] {
                let source = CheckpointStore.inMemory("source")
                let target = CheckpointStore.inMemory("target")
                try saveTierState(tierState(3), step: 1, ranks: 2, in: source, tierOptions(3))
                try source.damage("rank-0000\(rank)", ofStep: 1) { bytes in
                    switch position {
                    case "header": bytes[100] ^= 4
                    case "data": bytes[bytes.count - 5] ^= 1
                    default: bytes.removeLast()
                    }
                }
                let error = #expect(throws: CairnError.self) { try source.replicate(step: 1, to: target) }
                #expect(error?.code.isUnusable == true, "\(position)")
                #expect(error?.context.file?.contains("rank-0000\(rank)") == true, "\(position)")
                #expect(try target.storage.list("").isEmpty, "\(position): nothing is left")
            }
        }
    }

    @Test func aCopyThatIsStoppedLeavesNothing() throws {
        let target = CheckpointStore.inMemory("target")
        try saveTierState(tierState(3), step: 1, ranks: 2, in: source, tierOptions(3))
        let calls = Monitor(0)
        var options = ReplicationOptions()
        options.progress = { _ in
            if calls.change({
                $0 += 1; return $0
            }) == 5 {
                throw CairnError(.cancelled, "enough")
            }
        }
        let error = #expect(throws: CairnError.self) { try source.replicate(step: 1, to: target, options: options) }
        #expect(error?.code == .cancelled)
        #expect(try target.storage.list("").isEmpty)
    }

    // MARK: Faults of the target

    /// A target with a checkpoint of step 1 and, for a copy that replaces it, another save of step 2.
    private func prepared(_ isReplacing: Bool) throws -> SimulatedDisk {
        let disk = SimulatedDisk()
        let target = CheckpointStore(tier: disk)
        try target.save(tierState(1), step: 1, options: tierOptions(1))
        if isReplacing { try saveTierState(tierState(9), step: 2, ranks: 2, in: target, tierOptions(9)) }
        return disk
    }

    private var replacing: ReplicationOptions {
        var options = ReplicationOptions()
        options.replacing = true
        return options
    }

    private func check(_ disk: SimulatedDisk, _ isReplacing: Bool, hasReturned: Bool, _ place: String) throws -> Bool {
        let store = CheckpointStore(tier: disk)
        #expect(try store.load(step: 1, options: tierLoad) == tierState(1), "\(place)")
        guard try store.steps().contains(2) else {
            #expect(!hasReturned && !isReplacing, "\(place): the checkpoint is gone")
            return false
        }
        let found = try store.load(step: 2, options: tierLoad)
        let isNew = try found == tierState(2)
        #expect(try isNew || (isReplacing && !hasReturned && found == tierState(9)), "\(place): a mixture")
        return isNew
    }

    @Test(arguments: [false, true])
    func whateverCallOfTheTargetFailsTheCopyIsWholeOrAbsentAndCanBeMadeAgain(isReplacing: Bool) throws {
        try saveTierState(tierState(2), step: 2, ranks: 2, in: source, tierOptions(2))
        let start = try prepared(isReplacing)
        for fault in [SimulatedFault.fail(EIO), .failFromHereOn(ENOSPC)] {
            var failures = 0
            for call in 1... {
                let disk = start.copy()
                disk.inject(fault, atCall: call)
                let place = "\(fault) at call \(call)"
                var hasReturned = false
                do {
                    try source.replicate(step: 2, to: CheckpointStore(tier: disk), options: replacing)
                    hasReturned = true
                } catch let error as CairnError {
                    failures += 1
                    #expect(error.code == (fault == .fail(EIO) ? .inputOutput : .noSpace), "\(place): \(error)")
                }
                #expect(disk.openDescriptorCount == 0, "\(place)")
                _ = try check(disk.copy(), isReplacing, hasReturned: hasReturned, place)
                _ = try check(disk.crash(.losePending, seed: 0), isReplacing, hasReturned: hasReturned, "\(place), crash")
                // The disk works again.
                let healed = disk.copy()
                let target = CheckpointStore(tier: healed)
                try source.replicate(step: 2, to: target, options: replacing)
                #expect(try check(healed, isReplacing, hasReturned: true, place))
                _ = try target.prune(RetentionPolicy(), debrisAge: -10)
                #expect(try target.storage.list("step-00000002/").count == 3, "\(place): debris")
                if disk.callCount < call { break }
            }
            #expect(failures > 15, "\(fault)")
        }
    }

    @Test(arguments: [false, true])
    func aCopyThatIsCutByACrashLeavesTheOldOrTheNewCheckpoint(isReplacing: Bool) throws {
        try saveTierState(tierState(2), step: 2, ranks: 2, in: source, tierOptions(2))
        let disk = try prepared(isReplacing)
        disk.startHistory()
        try source.replicate(step: 2, to: CheckpointStore(tier: disk), options: replacing)
        disk.passMilestone()
        var outcomes = Set<Bool>()
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in 0..<UInt64(2) {
                    let place = "\(point), \(policy), seed \(seed)"
                    let survivor = point.crash(policy, seed: seed)
                    outcomes.insert(try check(survivor, isReplacing, hasReturned: point.milestone == 1, place))
                    try source.replicate(step: 2, to: CheckpointStore(tier: survivor), options: replacing)
                    #expect(try check(survivor, isReplacing, hasReturned: true, place))
                }
            }
        }
        #expect(outcomes == [false, true])
    }

    @Test func aReadThatFailsFailsTheCopyAndTheTargetHasNothing() throws {
        let sourceDisk = SimulatedDisk()
        try saveTierState(tierState(2), step: 2, ranks: 2, in: CheckpointStore(tier: sourceDisk), tierOptions(2))
        var failures = 0
        for call in 1... {
            let disk = sourceDisk.copy()
            disk.inject(.fail(EIO), atCall: call)
            let target = CheckpointStore.inMemory("target")
            do {
                try CheckpointStore(tier: disk).replicate(step: 2, to: target)
                #expect(try target.load(step: 2) == tierState(2))
            } catch let error as CairnError {
                failures += 1
                #expect(error.code == .inputOutput)
                #expect(try target.storage.list("").isEmpty)
            }
            if disk.callCount < call { break }
        }
        #expect(failures > 5)
    }
}
