import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnStorageTesting
import CairnTesting
import Testing

/// Whenever the power goes, there is the old checkpoint or the new one, whole; in formats that cannot be replaced at once, or
/// nothing.
@Suite(.tags(.slow, .crash)) struct WriterCrashTests {
    private static let seeds: Range<UInt64> = 0..<2

    private func storage(_ disk: SimulatedDisk) -> LocalStorage { LocalStorage(root: "/run", fileSystem: disk) }

    @Test(arguments: WritableFormat.all) func aCrashLeavesTheOldOrTheNew(format: WritableFormat) throws {
        let (old, new) = (try format.randomState(seed: 9), try format.randomState(seed: 10))
        let disk = SimulatedDisk()
        _ = try copyCheckpoint(from: old, to: format.makeWriter(storage(disk), false))
        disk.startHistory()
        _ = try copyCheckpoint(from: new, to: format.makeWriter(storage(disk), true))
        disk.passMilestone()
        var outcomes: Set<String> = []
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in policy == .losePending || policy == .keepPending ? 0..<1 : Self.seeds {
                    let place = "\(point), \(policy), seed \(seed)"
                    let survivor = storage(point.crash(policy, seed: seed))
                    outcomes.insert(try outcome(format, survivor, old, new, isPromised: point.milestone > 0, place))
                }
            }
        }
        #expect(outcomes.subtracting(["nothing"]) == ["old", "new"])
        #expect(outcomes.contains("nothing") == !format.replacesAtOnce)
    }

    @Test(arguments: WritableFormat.all) func aFirstOneIsAbsentUntilItIsWhole(format: WritableFormat) throws {
        let new = try format.randomState(seed: 10)
        let disk = SimulatedDisk()
        disk.startHistory()
        _ = try copyCheckpoint(from: new, to: format.makeWriter(storage(disk), false))
        disk.passMilestone()
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                let place = "\(point), \(policy)"
                let survivor = storage(point.crash(policy, seed: 1))
                let found = try outcome(format, survivor, nil, new, isPromised: point.milestone > 0, place)
                #expect(found != "old", "\(place)")
            }
        }
    }

    private func outcome(
        _ format: WritableFormat, _ storage: LocalStorage, _ old: MemoryCheckpoint?, _ new: MemoryCheckpoint, isPromised: Bool,
        _ place: String
    ) throws -> String {
        let reader: any CheckpointReader
        do {
            reader = try format.openWithoutAdditions(storage)
        } catch {
            #expect(error is CairnError && !isPromised, "\(place): \(error)")
            return "nothing"
        }
        if try difference(new, reader) == nil { return "new" }
        let isOld = try old.map { try difference($0, reader) == nil } ?? false
        #expect(isOld && !isPromised, "\(place): a mixture")
        return "old"
    }
}
