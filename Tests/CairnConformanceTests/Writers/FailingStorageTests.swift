import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnStorageTesting
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Whichever call of the disk fails, the error comes out, and nothing is there that looks whole and is not.
@Suite(.tags(.slow, .crash)) struct FailingStorageTests {
    private func storage(_ disk: SimulatedDisk) -> LocalStorage { LocalStorage(root: "/run", fileSystem: disk) }

    /// How many calls it takes to write a state.
    private func callCount(_ format: WritableFormat, _ state: MemoryCheckpoint) throws -> Int {
        let disk = SimulatedDisk()
        _ = try copyCheckpoint(from: state, to: format.makeWriter(storage(disk), false))
        return disk.callCount
    }

    @Test(arguments: WritableFormat.all) func aCallThatFailsLeavesNothing(format: WritableFormat) throws {
        let state = try format.randomState(seed: 6)
        let count = try callCount(format, state), whole = try format.files(of: state).list("").map(\.key)
        var failures = 0
        for call in 1...count {
            let disk = SimulatedDisk()
            disk.inject(.fail(ENOSPC), atCall: call)
            do {
                _ = try copyCheckpoint(from: state, to: format.makeWriter(storage(disk), false))
                #expect(try difference(state, format.openWithoutAdditions(storage(disk))) == nil, "call \(call)")
            } catch {
                failures += 1
                #expect(error is CairnError, "call \(call): \(error)")
                let left = try storage(disk).list("").map(\.key)
                guard !left.isEmpty else { continue }
                // The failure came after the checkpoint had its name, and all of it is there.
                #expect(left == whole, "call \(call)")
                #expect(try difference(state, format.openWithoutAdditions(storage(disk))) == nil, "call \(call)")
            }
            #expect(disk.openDescriptorCount == 0, "call \(call)")
        }
        #expect(failures > 3)
    }

    @Test(arguments: WritableFormat.all) func aDiskThatStaysFullHoldsNothingThatLooksWhole(format: WritableFormat) throws {
        let state = try format.randomState(seed: 7)
        for call in 1...(try callCount(format, state)) {
            let disk = SimulatedDisk()
            disk.inject(.failFromHereOn(ENOSPC), atCall: call)
            let error = refusal { _ = try copyCheckpoint(from: state, to: format.makeWriter(storage(disk), false)) }
            guard let reader = try? format.openWithoutAdditions(storage(disk)) else {
                // Only those who were told so may find nothing.
                #expect(error?.code == .noSpace, "call \(call): \(String(describing: error))")
                continue
            }
            #expect(try difference(state, reader) == nil, "call \(call)")
        }
    }

    @Test(arguments: WritableFormat.all) func aDiskWithoutRoomForAllOfItHoldsNothing(format: WritableFormat) throws {
        let state = try format.randomState(seed: 8)
        let disk = SimulatedDisk()
        _ = try copyCheckpoint(from: state, to: format.makeWriter(storage(disk), false))
        let needed = disk.usedBytes
        for capacity in [0, 1, needed / 4, needed / 2, needed * 3 / 4, needed - 1] {
            let small = SimulatedDisk(capacity: capacity)
            let error = refusal { _ = try copyCheckpoint(from: state, to: format.makeWriter(storage(small), false)) }
            #expect(error?.code == .noSpace, "\(capacity) of \(needed) bytes: \(String(describing: error))")
            #expect(try storage(small).list("").map(\.key) == [], "\(capacity) of \(needed) bytes")
        }
    }

    @Test(arguments: WritableFormat.all.filter(\.replacesAtOnce))
    func whatWasThereOutlivesAFailure(format: WritableFormat) throws {
        let (old, new) = (try format.randomState(seed: 6), try format.randomState(seed: 7))
        let before = SimulatedDisk()
        _ = try copyCheckpoint(from: old, to: format.makeWriter(storage(before), false))
        let counted = before.copy()
        _ = try copyCheckpoint(from: new, to: format.makeWriter(storage(counted), true))
        for call in 1...counted.callCount {
            let disk = before.copy()
            disk.inject(.fail(EIO), atCall: call)
            let error = refusal { _ = try copyCheckpoint(from: new, to: format.makeWriter(storage(disk), true)) }
            let reader = try format.openWithoutAdditions(storage(disk))
            let isNew = try difference(new, reader) == nil
            #expect(try isNew || (error != nil && difference(old, reader) == nil), "call \(call)")
        }
    }
}
