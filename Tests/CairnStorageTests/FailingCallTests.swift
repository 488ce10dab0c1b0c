import CairnBase
import CairnStorage
import CairnStorageTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// `LocalStorage` over a disk of which one call fails, for each call in turn.
@Suite struct FailingCallTests {
    private static let old = patternBytes(700, salt: 1)
    private static let new = patternBytes(2_000, salt: 2)

    /// A disk on which "step/object" has its old bytes.
    private func prepared() throws -> SimulatedDisk {
        let disk = SimulatedDisk()
        try LocalStorage(root: "/run", fileSystem: disk).publish(Self.old, as: "step/object")
        return disk.copy()
    }

    /// Runs `work` with `fault` at its first call, then at its second, until it has none left; how many there were.
    private func atEachCall(
        _ fault: SimulatedFault, writing: LocalWriting = .buffered,
        _ work: (SimulatedDisk, LocalStorage, Int) throws -> Void
    ) throws -> Int {
        let start = try prepared()
        for call in 1... {
            let disk = start.copy()
            disk.inject(fault, atCall: call)
            try work(disk, LocalStorage(root: "/run", writing: writing, fileSystem: disk), call)
            if disk.callCount < call { return call - 1 }
        }
        return 0
    }

    @Test(arguments: [EIO, ENOSPC, EDQUOT, EACCES, EROFS, EMFILE], [LocalWriting.buffered, .direct])
    func aFailedPublishThrowsAndLeavesOldOrNew(_ number: Int32, _ writing: LocalWriting) throws {
        var failures = 0
        let calls = try atEachCall(.fail(number), writing: writing) { disk, storage, call throws in
            var succeeded = false
            do throws(CairnError) {
                try storage.publish(Self.new, as: "step/object")
                succeeded = true
            } catch {
                failures += 1
                let code: CairnError.Code =
                    switch number {
                    case ENOSPC, EDQUOT: .noSpace
                    case EACCES, EROFS: .accessDenied
                    default: .inputOutput
                    }
                #expect(error.code == code, "call \(call): \(error)")
                #expect(error.context.advice != nil, "call \(call): \(error)")
                #expect(error.context.file?.hasPrefix("/run") == true, "call \(call): \(error)")
            }
            // A copy, so that the fault cannot hit what looks at the outcome.
            let after = disk.copy()
            let healed = LocalStorage(root: "/run", fileSystem: after)
            let found = try healed.readAll("step/object")
            #expect(succeeded ? found == Self.new : found == Self.new || found == Self.old, "call \(call)")
            for policy in CrashPolicy.allCases {
                let survivor = LocalStorage(root: "/run", fileSystem: disk.crash(policy, seed: UInt64(call)))
                let kept = try survivor.readAll("step/object")
                #expect(succeeded ? kept == Self.new : kept == Self.new || kept == Self.old, "call \(call), \(policy)")
            }
            // Whatever happened, the next attempt works and is durable.
            try healed.publish(Self.new, as: "step/object")
            let survivor = LocalStorage(root: "/run", fileSystem: after.crash(.losePending, seed: 0))
            #expect(try survivor.readAll("step/object") == Self.new, "call \(call)")
        }
        #expect(calls > 8)
        #expect(failures > 6, "closing is all that may fail unnoticed")
    }

    @Test(arguments: [EIO, ENOSPC], [LocalWriting.buffered, .direct])
    func aFailedWriterStaysFailedAndLeavesTheOldObject(_ number: Int32, _ writing: LocalWriting) throws {
        _ = try atEachCall(.fail(number), writing: writing) { disk, storage, call throws in
            do throws(CairnError) {
                let writer = try storage.create("step/object", byteCount: 4_000)
                do throws(CairnError) {
                    try writer.write(Self.new, at: 0)
                    try writer.finish(byteCount: Self.new.count)
                } catch {
                    // A second attempt must not report as durable what the first one lost.
                    #expect(throws: CairnError.self, "call \(call)") { try writer.finish(byteCount: Self.new.count) }
                    writer.discard()
                }
            } catch {
                #expect(error.code == (number == ENOSPC ? .noSpace : .inputOutput), "call \(call): \(error)")
            }
            let survivor = LocalStorage(root: "/run", fileSystem: disk.crash(.keepPending, seed: 0))
            let found = try survivor.readAll("step/object")
            #expect(found == Self.old || found == Self.new, "call \(call)")
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func interruptedAndShortCallsAreContinued(_ writing: LocalWriting) throws {
        for fault in [SimulatedFault.fail(EINTR), .short] {
            let calls = try atEachCall(fault, writing: writing) { disk, storage, call throws in
                try storage.publish(Self.new, as: "step/object")
                let writer = try storage.create("step/other", byteCount: 5_000)
                try writer.write(Self.old, at: 100)
                try writer.finish(byteCount: 800)
                #expect(try storage.readAll("step/object") == Self.new, "\(fault), call \(call)")
                #expect(try storage.readAll("step/other").count == 800, "\(fault), call \(call)")
                #expect(try storage.list("step/").count == 2, "\(fault), call \(call)")
                try storage.delete(["step/other"])
                let survivor = LocalStorage(root: "/run", fileSystem: disk.crash(.losePending, seed: 0))
                #expect(try survivor.list("").map(\.key) == ["step/object"], "\(fault), call \(call)")
                #expect(try survivor.readAll("step/object") == Self.new, "\(fault), call \(call)")
            }
            #expect(calls > 30)
        }
    }

    @Test func aFailedDeleteThrowsOrDeletes() throws {
        _ = try atEachCall(.fail(EIO)) { disk, storage, call throws in
            do throws(CairnError) {
                try storage.delete(["step/object"])
            } catch {
                #expect(error.code == .inputOutput, "call \(call)")
                return
            }
            let survivor = LocalStorage(root: "/run", fileSystem: disk.crash(.losePending, seed: 0))
            #expect(try survivor.list("").isEmpty, "call \(call)")
        }
    }

    @Test func aDiskThatBreaksForGoodIsReportedAndStillReadable() throws {
        _ = try atEachCall(.failFromHereOn(EROFS)) { disk, storage, call throws in
            do throws(CairnError) {
                try storage.publish(Self.new, as: "step/object")
            } catch {
                #expect(error.code == .accessDenied)
                #expect(error.context.advice == "the file system is mounted read-only: choose another directory")
            }
            let found = try storage.readAll("step/object")
            #expect(found == Self.old || found == Self.new, "call \(call)")
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aFullDiskIsNoticedBeforeTheFirstByte(_ writing: LocalWriting) throws {
        let disk = SimulatedDisk(capacity: 10_000)
        let storage = LocalStorage(root: "/run", writing: writing, fileSystem: disk)
        try storage.publish(Self.old, as: "object")
        let error = #expect(throws: CairnError.self) { try storage.create("object", byteCount: 9_500) }
        #expect(error?.code == .noSpace)
        #expect(disk.usedBytes == Self.old.count, "what was reserved is given back")
        let late = #expect(throws: CairnError.self) { try storage.publish(patternBytes(9_500), as: "object") }
        #expect(late?.code == .noSpace)
        #expect(try storage.readAll("object") == Self.old)
        #expect(try storage.list("").count == 1)
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func whereSpaceCannotBeReservedItIsNotAnError(_ writing: LocalWriting) throws {
        for number in [EOPNOTSUPP, EINVAL, ENOSYS] {
            let disk = try prepared()
            let reserving = writing == .direct ? 3 : 2
            disk.inject(.fail(number), atCall: reserving)
            let storage = LocalStorage(root: "/run", writing: writing, fileSystem: disk)
            try storage.write(Self.new, as: "step/object", reserving: 3_000)
            #expect(disk.callCount > reserving)
            #expect(try storage.readAll("step/object") == Self.new)
        }
    }
}
