import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnStorageTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A store on a disk of which one call fails, for each call in turn, or which is full.
@Suite struct FailingStoreCallTests {
    /// A way to save a state.
    private struct Save: Sendable {
        var name: String
        var step: Int
        var run: @Sendable (CheckpointStore, TrainingState) throws -> Void
    }

    private static let saves: [Save] = [
        Save(name: "new", step: 3) { try $0.save($1, step: 3, options: repeatableOptions(30)) },
        Save(name: "two ranks", step: 3) { try saveInTwoRanks($1, step: 3, in: $0, repeatableOptions(31)) },
        Save(name: "compressed", step: 3) {
            try $0.save($1, step: 3, options: repeatableOptions(32) { $0.compression = .zstd() })
        },
        Save(name: "replacing", step: 2) {
            try $0.save($1, step: 2, options: repeatableOptions(33) { $0.replacing = true })
        },
        Save(name: "replacing by two ranks", step: 2) {
            try saveInTwoRanks($1, step: 2, in: $0, repeatableOptions(34) { $0.replacing = true })
        },
    ]

    private let old: [TrainingState]
    private let new: TrainingState
    private let start: SimulatedDisk

    init() throws {
        old = [try smallState(1), try smallState(2)]
        new = try smallState(3)
        let disk = SimulatedDisk()
        let store = CheckpointStore(on: disk)
        try store.save(old[0], step: 1, options: repeatableOptions(1))
        try saveInTwoRanks(old[1], step: 2, in: store, repeatableOptions(2))
        start = disk.copy()
    }

    /// Runs `work` with `fault` at its first call, then at its second, until it makes fewer; how many there were.
    private func atEachCall(_ fault: SimulatedFault, _ work: (SimulatedDisk, String) throws -> Void) throws -> Int {
        for call in 1... {
            let disk = start.copy()
            disk.inject(fault, atCall: call)
            try work(disk, "\(fault) at call \(call)")
            if disk.callCount < call { return call - 1 }
        }
        return 0
    }

    /// Checks what a save left on a disk that works again or has crashed.
    private func check(_ disk: SimulatedDisk, _ save: Save, succeeded: Bool, _ place: String) throws {
        let store = CheckpointStore(on: disk)
        #expect(try store.load(step: 1, options: sequentialLoad) == old[0], "\(place)")
        if try store.steps().contains(save.step) {
            let found = try store.load(step: save.step, options: sequentialLoad)
            #expect(found == new || (!succeeded && save.step == 2 && found == old[1]), "\(place)")
        } else {
            #expect(!succeeded && save.step == 3, "\(place): the step is gone")
        }
        if save.step != 2 { #expect(try store.load(step: 2, options: sequentialLoad) == old[1], "\(place)") }
    }

    /// Saves over a faulty disk and checks what became of it; whether the save went through.
    private func attempt(
        _ save: Save, _ disk: SimulatedDisk, _ writing: LocalWriting, codes: Set<CairnError.Code>, _ place: String
    ) throws -> Bool {
        var succeeded = false
        do {
            try save.run(CheckpointStore(on: disk, writing: writing), new)
            succeeded = true
        } catch let error as CairnError {
            #expect(codes.contains(error.code), "\(place): \(error)")
            #expect(error.context.file != nil && error.context.advice != nil, "\(place): \(error)")
        }
        #expect(disk.openDescriptorCount == 0, "\(place)")
        try check(disk.copy(), save, succeeded: succeeded, place)
        for (policy, seed) in [(CrashPolicy.losePending, 0), (.keepPending, 0), (.subset, 1), (.torn, 2), (.torn, 3)] {
            let crashed = disk.crash(policy, seed: UInt64(seed))
            try check(crashed, save, succeeded: succeeded, "\(place), then \(policy)")
        }
        // The fault is gone: the same state saves again under the same step.
        let healed = disk.copy()
        let store = CheckpointStore(on: healed)
        let options = repeatableOptions(77) { $0.replacing = succeeded || save.step == 2 }
        try store.save(new, step: save.step, options: options)
        _ = try store.prune(RetentionPolicy(), debrisAge: -10)
        #expect(Set(try store.storage.list("").map(\.key)) == (try store.committedKeys()), "\(place): debris")
        let crashed = healed.crash(.losePending, seed: 0)
        try check(crashed, save, succeeded: true, "\(place), saved again")
        return succeeded
    }

    @Test(arguments: [EIO, ENOSPC, EDQUOT], [LocalWriting.buffered, .direct])
    func aSaveWithAFailedCallThrowsClearlyAndHarmsNothing(_ number: Int32, _ writing: LocalWriting) throws {
        let code: CairnError.Code = number == EIO ? .inputOutput : .noSpace
        for save in Self.saves {
            var failures = 0
            let calls = try atEachCall(.fail(number)) { disk, fault throws in
                if try !attempt(save, disk, writing, codes: [code], "\(save.name), \(fault)") { failures += 1 }
            }
            print("failing calls, errno \(number), \(save.name), \(writing): \(failures) of \(calls) calls failed the save")
            #expect(failures > 15)
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func interruptedAndShortCallsAreContinued(_ writing: LocalWriting) throws {
        for save in Self.saves {
            for fault in [SimulatedFault.fail(EINTR), .short] {
                _ = try atEachCall(fault) { disk, place throws in
                    #expect(try attempt(save, disk, writing, codes: [], "\(save.name), \(place)"), "\(save.name), \(place)")
                }
            }
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aDiskThatStaysFullFailsTheSaveAndKeepsTheRest(_ writing: LocalWriting) throws {
        for save in Self.saves {
            _ = try atEachCall(.failFromHereOn(ENOSPC)) { disk, fault throws in
                let place = "\(save.name), \(fault)"
                var succeeded = false
                do {
                    try save.run(CheckpointStore(on: disk, writing: writing), new)
                    succeeded = true
                } catch let error as CairnError {
                    #expect(error.code == .noSpace, "\(place): \(error)")
                }
                try check(disk.copy(), save, succeeded: succeeded, place)
                let store = CheckpointStore(on: disk.copy())
                try store.save(new, step: save.step, options: repeatableOptions(77) { $0.replacing = true })
                #expect(try store.load(step: save.step, options: sequentialLoad) == new, "\(place)")
            }
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aDiskWithTooLittleRoomFailsTheSaveAndHasRoomForTheNextOneAfterwards(_ writing: LocalWriting) throws {
        let used = start.usedBytes
        for save in Self.saves {
            var failures = 0
            for room in stride(from: 0, to: 40_000, by: 509) {
                let disk = start.copy()
                disk.setCapacity(used + room)
                let place = "\(save.name), \(room) bytes of room"
                do {
                    try save.run(CheckpointStore(on: disk, writing: writing), new)
                } catch let error as CairnError {
                    failures += 1
                    #expect(error.code == .noSpace, "\(place): \(error)")
                    #expect(disk.usedBytes == used, "\(place): the failed save left bytes behind")
                }
                disk.setCapacity(used + 100_000)
                let store = CheckpointStore(on: disk)
                try store.save(new, step: save.step, options: repeatableOptions(77) { $0.replacing = true })
                try check(disk, save, succeeded: true, place)
            }
            #expect((10..<75).contains(failures), "\(save.name): \(failures)")
        }
    }

    @Test(arguments: [LocalWriting.buffered, .direct])
    func aLoadWithAFailedCallThrowsOrIsExact(_ way: LocalWriting) throws {
        for fault in [SimulatedFault.fail(EIO), .fail(EINTR), .short] {
            var failures = 0
            let calls = try atEachCall(fault) { disk, place throws in
                do {
                    let store = CheckpointStore(on: disk, writing: way)
                    for step in 1...2 {
                        #expect(try store.load(step: step, options: sequentialLoad) == old[step - 1], "\(place)")
                    }
                    let latest = try store.loadLatest(options: sequentialLoad)
                    #expect(latest.step == 2 && latest.state == old[1] && latest.skipped.isEmpty, "\(place)")
                } catch let error as CairnError {
                    failures += 1
                    #expect(error.code == .inputOutput && fault == .fail(EIO), "\(place): \(error)")
                    #expect(error.context.file != nil, "\(place): \(error)")
                }
                #expect(disk.openDescriptorCount == 0, "\(place)")
            }
            print("failing loads, \(way): \(fault): \(failures) of \(calls) calls failed the load")
            #expect(fault != .fail(EIO) || failures > 20)
        }
    }
}
