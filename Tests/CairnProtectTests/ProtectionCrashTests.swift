import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// Protecting and repairing over a disk whose power can go at every moment.
@Suite(.tags(.crash)) struct ProtectionCrashTests {
    private static let seeds: Range<UInt64> = 0..<3
    private let sizes = [3_000, 900, 0, 2_500]

    private func storage(_ disk: SimulatedDisk) -> LocalStorage {
        LocalStorage(root: "/run", writing: .buffered, fileSystem: disk)
    }

    private func disk(_ contents: [String: [UInt8]]) throws -> SimulatedDisk {
        let disk = SimulatedDisk()
        for (name, bytes) in contents.sorted(by: { $0.key < $1.key }) { try storage(disk).publish(bytes, as: name) }
        return disk
    }

    /// Runs `work` and hands every state that a crash can leave to `check`, with whether `work` had returned.
    private func explore(
        _ disk: SimulatedDisk, work: (LocalStorage) throws -> Void, check: (LocalStorage, Bool, String) throws -> Void
    ) throws -> Int {
        disk.startHistory()
        try work(storage(disk))
        disk.passMilestone()
        var count = 0
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in Self.seeds {
                    let survivor = storage(point.crash(policy, seed: seed))
                    try check(survivor, point.milestone == 1, "\(point), \(policy), seed \(seed)")
                    count += 1
                }
            }
        }
        return count
    }

    private func whole() throws -> [String: [UInt8]] {
        let (storage, files) = try Samples.storage(sizes, seed: 11)
        try Protection.protect(files.keys.sorted(), in: storage, as: "set", options: Samples.options(2))
        return try Samples.contents(of: storage)
    }

    @Test func protectingThatIsCutLeavesTheFilesAndParityThatRepairCompletes() throws {
        let whole = try whole()
        let files = whole.filter { $0.key.hasPrefix("file-") }
        var outcomes = Set<Int>()
        let count = try explore(disk(files)) { storage in
            try Protection.protect(files.keys.sorted(), in: storage, as: "set", options: Samples.options(2))
        } check: { survivor, hasReturned, crash in
            for (name, bytes) in files { #expect(try survivor.readAll(name) == bytes, "\(crash)") }
            let protection = try Protection.find(in: survivor).first
            #expect(protection != nil || !hasReturned, "\(crash)")
            guard let protection else { return _ = outcomes.insert(0) }
            let report = try protection.repair(concurrency: 1)
            #expect(report.files.allSatisfy { !($0.isParity == false && $0.state != .intact) }, "\(crash)")
            #expect(report.isIntact || !hasReturned, "\(crash)")
            outcomes.insert(report.remainingLosses)
            #expect(try protection.verify(concurrency: 1).isIntact, "\(crash)")
        }
        #expect(outcomes == [0, 1, 2], "\(count) crashes")
    }

    @Test func repairThatIsCutIsNoWorseAndCanBeRepeated() throws {
        let whole = try whole()
        var damaged = whole
        damaged["file-0"]?[700] ^= 1
        damaged["set.cairn-parity-00"]?[5_000] ^= 1
        damaged["file-3"] = nil
        var outcomes = Set<Int>()
        _ = try explore(disk(damaged)) { storage in
            try Protection.find(in: storage).first?.repair(concurrency: 1)
        } check: { survivor, hasReturned, crash in
            let protection = try #require(try Protection.find(in: survivor).first, "\(crash)")
            let report = try protection.repair(concurrency: 1)
            #expect(report.isIntact || !hasReturned, "\(crash)")
            outcomes.insert(report.files.filter { $0.state != .intact }.count)
            for (name, bytes) in whole { #expect(try survivor.readAll(name) == bytes, "\(crash), \(name)") }
        }
        #expect(outcomes == [0, 1, 2, 3])
    }

    @Test func replacingParityThatIsCutLeavesTheFilesProtected() throws {
        let whole = try whole()
        _ = try explore(disk(whole)) { storage in
            var options = Samples.options(3, columns: 2)
            options.replacing = true
            try Protection.protect(whole.keys.filter { $0.hasPrefix("file-") }.sorted(), in: storage, as: "set", options: options)
        } check: { survivor, hasReturned, crash in
            let protection = try #require(try Protection.find(in: survivor).first, "\(crash)")
            #expect(protection.parityCount == 3 || !hasReturned, "\(crash)")
            try survivor.delete(["file-1"])
            try protection.repair(concurrency: 1)
            #expect(try survivor.readAll("file-1") == whole["file-1"], "\(crash)")
        }
    }

    @Test func aProtectedCheckpointIsDeletedAsAWholeOrStays() throws {
        let disk = SimulatedDisk()
        var options = SaveOptions()
        options.concurrency = 1
        options.chunkByteCount = 4096
        options.saveID = SaveID("00112233445566778899aabbccddeeff")
        var state = TrainingState()
        state.set(Tensor((0..<1500).map { Float($0) }), for: "weight")
        try CheckpointStore(storage: storage(disk), name: "run").save(
            state, step: 1, options: options, protection: Samples.options(1))
        var outcomes = Set<Bool>()
        _ = try explore(disk) { storage in
            try CheckpointStore(storage: storage, name: "run").delete(step: 1)
        } check: { survivor, hasReturned, crash in
            let store = CheckpointStore(storage: survivor, name: "run")
            let isThere = try store.steps() == [1]
            #expect(!isThere || !hasReturned, "\(crash)")
            if isThere { #expect(try store.load(step: 1) == state, "\(crash)") }
            outcomes.insert(isThere)
            // What is left of a deleted one is debris, which parity would keep from being that.
            _ = try store.prune(RetentionPolicy(), debrisAge: -1e12)
            if !isThere { #expect(try survivor.list("").isEmpty, "\(crash)") }
        }
        #expect(outcomes == [false, true])
    }

    @Test func aSaveWithParityThatIsCutLeavesACheckpointOrNone() throws {
        var options = SaveOptions()
        options.concurrency = 1
        options.chunkByteCount = 4096
        options.saveID = SaveID("00112233445566778899aabbccddeeff")
        var state = TrainingState()
        state.set(Tensor((0..<9000).map { Float($0) }), for: "weight")
        var outcomes = Set<Int>()
        _ = try explore(SimulatedDisk()) { storage in
            try CheckpointStore(storage: storage, name: "run").save(
                state, step: 1, options: options, protection: Samples.options(2))
        } check: { survivor, hasReturned, crash in
            let store = CheckpointStore(storage: survivor, name: "run")
            guard try store.steps() == [1] else {
                #expect(!hasReturned, "\(crash)")
                // Nothing is offered that was never committed.
                let order = RecoveryOrder([CheckpointTier("disk", store: store).repairedByParity()])
                #expect(try order.load()?.step == nil, "\(crash)")
                _ = try store.prune(RetentionPolicy(), debrisAge: -1e12)
                #expect(try survivor.list("").isEmpty, "\(crash)")
                return _ = outcomes.insert(-1)
            }
            #expect(try store.load(step: 1) == state, "\(crash)")
            let report = try store.repair(step: 1, concurrency: 1)
            #expect(report?.isIntact ?? !hasReturned || !hasReturned, "\(crash)")
            outcomes.insert(report?.remainingLosses ?? 0)
        }
        #expect(outcomes.isSuperset(of: [-1, 0, 2]))
    }

    @Test func writingBackThatIsCutLeavesWhatCanStillBeLoaded() throws {
        let disk = SimulatedDisk()
        var options = SaveOptions()
        options.concurrency = 1
        options.chunkByteCount = 4096
        var state = TrainingState()
        state.set(Tensor((0..<3000).map { Float($0) }), for: "weight")
        let store = CheckpointStore(storage: storage(disk), name: "run")
        try store.save(state, step: 1, options: options, protection: Samples.options(2))
        let key = try #require(try storage(disk).list("step-00000001/rank").first).key
        var bytes = try storage(disk).readAll(key)
        bytes[bytes.count / 2] ^= 1
        try storage(disk).publish(bytes, as: key)
        try storage(disk).delete(["step-00000001/manifest.json"])
        func load(_ storage: LocalStorage) throws -> Restart<TrainingState>? {
            let store = CheckpointStore(storage: storage, name: "run")
            return try RecoveryOrder([CheckpointTier("disk", store: store).repairedByParity(writingBack: true)]).load()
        }
        _ = try explore(disk) {
            _ = try load($0)
        } check: { survivor, hasReturned, crash in
            let restart = try #require(try load(survivor), "\(crash)")
            #expect(restart.state == state, "\(crash)")
            #expect((restart.decisions.last?.repair == nil) == hasReturned || !hasReturned, "\(crash)")
            #expect(try load(survivor)?.decisions.last?.repair == nil, "\(crash): it is mended now")
        }
    }
}
