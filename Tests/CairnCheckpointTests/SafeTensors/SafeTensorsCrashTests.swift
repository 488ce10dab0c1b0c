import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// A checkpoint that is being written is absent or whole at every moment at which the power can go.
@Suite struct SafeTensorsCrashTests {
    private func checkpoint(seed: UInt64) throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: seed)
        var checkpoint = MemoryCheckpoint()
        for index in 0..<5 {
            checkpoint.add("t\(index)", try Tensor.random(.u8, [700], using: &generator))
        }
        return checkpoint
    }

    private func write(_ checkpoint: MemoryCheckpoint, limit: Int?, to disk: SimulatedDisk) throws {
        let writer = SafeTensorsWriter(
            storage: LocalStorage(root: "/run", fileSystem: disk), key: "model.safetensors",
            maximumShardByteCount: limit, replaces: true)
        _ = try copyCheckpoint(from: checkpoint, to: writer)
    }

    @Test(arguments: [(nil, nil), (1500, nil), (1500, 1500), (nil, 1500), (1500, 700)] as [(Int?, Int?)])
    func aCrashLeavesTheOldTheNewOrNothing(limit: Int?, newLimit: Int?) throws {
        let (old, new) = (try checkpoint(seed: 1), try checkpoint(seed: 2))
        let disk = SimulatedDisk()
        try write(old, limit: limit, to: disk)
        disk.startHistory()
        try write(new, limit: newLimit, to: disk)
        disk.passMilestone()
        var outcomes: Set<String> = []
        for point in disk.crashPoints {
            for policy in CrashPolicy.allCases {
                for seed in 0..<4 as Range<UInt64> {
                    let survivor = LocalStorage(root: "/run", fileSystem: point.crash(policy, seed: seed))
                    let place = "\(point), \(policy), seed \(seed)"
                    guard let found = try? SafeTensorsReader(directory: survivor) else {
                        #expect(point.milestone == 0, "\(place)")
                        outcomes.insert("nothing")
                        continue
                    }
                    let isNew = try difference(found, new) == nil
                    #expect(try isNew || (point.milestone == 0 && difference(found, old) == nil), "\(place)")
                    outcomes.insert(isNew ? "new" : "old")
                }
            }
        }
        #expect(outcomes.isSuperset(of: ["old", "new"]))
        #expect(outcomes.contains("nothing") == (limit != nil || newLimit != nil))
    }

    @Test func aFullDiskLeavesNothing() throws {
        let new = try checkpoint(seed: 3)
        for limit in [nil, 1500] as [Int?] {
            let disk = SimulatedDisk()
            disk.setCapacity(3000)
            #expect(throws: CairnError.self) { try write(new, limit: limit, to: disk) }
            #expect(try LocalStorage(root: "/run", fileSystem: disk).list("").isEmpty)
        }
    }
}
