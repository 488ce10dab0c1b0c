import CairnBase
import CairnStorage
import CairnStorageTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What `LocalStorage` promises to last does so at every moment at which the power can go, whatever the disk keeps.
@Suite struct StorageCrashTests {
    private static let seeds: Range<UInt64> = 0..<12

    /// Runs `work` once and hands what each crash leaves to `check`.
    private func explore(
        from start: SimulatedDisk, writing: LocalWriting = .buffered, work: (SimulatedDisk, LocalStorage) throws -> Void,
        check: (LocalStorage, CrashPoint, String) throws -> Void
    ) throws -> Int {
        let disk = start.copy()
        disk.startHistory()
        try work(disk, LocalStorage(root: "/run", writing: writing, fileSystem: disk))
        #expect((disk.directCallCount > 0) == (writing == .direct))
        var count = 0
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in Self.seeds {
                    let survivor = LocalStorage(root: "/run", fileSystem: point.crash(policy, seed: seed))
                    try check(survivor, point, "\(point), \(policy), seed \(seed)")
                    count += 1
                }
            }
        }
        return count
    }

    private func object(_ key: String, in storage: LocalStorage) throws -> [UInt8]? {
        do throws(CairnError) {
            return try storage.readAll(key)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
    }

    @Test(arguments: ["manifest", "step/manifest", "a/b/c/manifest"], [LocalWriting.buffered, .direct])
    func aPublishedObjectIsAbsentOrWholeAndOnceReturnedWhole(_ key: String, _ writing: LocalWriting) throws {
        let bytes = patternBytes(3_000)
        let count = try explore(from: SimulatedDisk(), writing: writing) { disk, storage throws in
            try storage.publish(bytes, as: key)
            disk.passMilestone()
        } check: { survivor, point, place throws in
            let found = try object(key, in: survivor)
            #expect(found == bytes || (found == nil && point.milestone == 0), "\(place)")
            let leftovers = try survivor.list("").filter { $0.key != key }
            #expect(leftovers.allSatisfy { $0.isTemporary && $0.key.hasPrefix(key) }, "\(place)")
        }
        #expect(count > 500)
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aReplacedObjectIsOldOrNewAndOnceReturnedNew(_ writing: LocalWriting) throws {
        let start = SimulatedDisk()
        let versions = (0..<4).map { patternBytes(1_500 + 700 * $0, salt: $0) }
        try LocalStorage(root: "/run", fileSystem: start).publish(versions[0], as: "step/latest")
        let count = try explore(from: start, writing: writing) { disk, storage throws in
            for version in versions[1...] {
                try storage.publish(version, as: "step/latest")
                disk.passMilestone()
            }
        } check: { survivor, point, place throws in
            let found = try object("step/latest", in: survivor)
            let isNow = found == versions[point.milestone]
            let isNext = point.milestone + 1 < versions.count && found == versions[point.milestone + 1]
            #expect(isNow || isNext, "\(place)")
        }
        #expect(count > 1_000)
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aFinishedWriterKeepsItsBytesAndAnOpenOneLeavesOnlyDebris(_ writing: LocalWriting) throws {
        let bytes = patternBytes(20_000)
        _ = try explore(from: SimulatedDisk(), writing: writing) { disk, storage throws in
            let writer = try storage.create("step/rank-0", byteCount: 30_000)
            for start in stride(from: 0, to: bytes.count, by: 3_001).reversed() {
                try writer.write(Array(bytes[start..<min(bytes.count, start + 3_001)]), at: start)
            }
            try writer.finish(byteCount: bytes.count)
            disk.passMilestone()
        } check: { survivor, point, place throws in
            let found = try object("step/rank-0", in: survivor)
            #expect(found == bytes || (found == nil && point.milestone == 0), "\(place)")
        }
    }

    @Test func aDirectoryMadeByAnotherWriterIsMadeDurableToo() throws {
        _ = try explore(from: SimulatedDisk()) { disk, storage throws in
            // The first writer has made the directories and has not come to synchronizing them.
            let first = try storage.create("step/deep/first", byteCount: nil)
            try storage.publish([2], as: "step/deep/second")
            disk.passMilestone()
            let elsewhere = LocalStorage(root: "/run", fileSystem: disk)
            _ = try storage.create("other/first", byteCount: nil)
            try elsewhere.publish([3], as: "other/second")
            disk.passMilestone()
            first.discard()
        } check: { survivor, point, place throws in
            if point.milestone >= 1 { #expect(try object("step/deep/second", in: survivor) == [2], "\(place)") }
            if point.milestone >= 2 { #expect(try object("other/second", in: survivor) == [3], "\(place)") }
        }
    }

    @Test func aDeletedObjectStaysDeletedAndTheOthersStay() throws {
        let start = SimulatedDisk()
        let storage = LocalStorage(root: "/run", fileSystem: start)
        for key in ["keep", "step-1/a", "step-1/b", "step-2/a", "step-2/keep"] { try storage.publish([1], as: key) }
        _ = try explore(from: start) { disk, storage throws in
            try storage.delete(["step-1/a", "step-1/b", "step-2/a"])
            disk.passMilestone()
        } check: { survivor, point, place throws in
            #expect(try object("keep", in: survivor) == [1], "\(place)")
            #expect(try object("step-2/keep", in: survivor) == [1], "\(place)")
            if point.milestone == 1 {
                #expect(try survivor.list("").map(\.key) == ["keep", "step-2/keep"], "\(place)")
            }
        }
    }

    /// Shows that the checks above can fail: without `fsync` of the file they find a mixture.
    @Test func withoutSynchronizingARenamedFileIsTorn() throws {
        let disk = SimulatedDisk()
        let bytes = patternBytes(3_000)
        let descriptor = try disk.open("/new", .createExclusive)
        _ = try disk.write(descriptor, at: 0, bytes)
        try disk.rename("/new", to: "/manifest")
        let found = (0..<100).compactMap { disk.crash(.torn, seed: $0).files["/manifest"] }
        #expect(found.contains { $0 != bytes })
    }

    @Test func stoppingAtEachCallLeavesTheSameAsTheHistory() throws {
        var stops = 0
        for call in 1... {
            var hasStopped = false
            for fault in [SimulatedFault.stopBefore, .stopAfter] {
                let disk = SimulatedDisk()
                disk.inject(fault, atCall: call)
                let storage = LocalStorage(root: "/run", fileSystem: disk)
                do throws(CairnError) {
                    try storage.publish([1, 2, 3], as: "step/manifest")
                } catch {
                    #expect(error.isSimulatedStop, "call \(call): \(error)")
                    #expect(error.code == .inputOutput, "call \(call): \(error)")
                }
                hasStopped = disk.isStopped
                for policy in CrashPolicy.allCases {
                    let found = try object(
                        "step/manifest",
                        in: LocalStorage(
                            root: "/run", fileSystem: disk.crash(policy, seed: UInt64(call))))
                    #expect(found == nil || found == [1, 2, 3], "call \(call), \(fault), \(policy)")
                }
            }
            if !hasStopped { break }
            stops += 1
        }
        #expect(stops > 10)
    }
}
