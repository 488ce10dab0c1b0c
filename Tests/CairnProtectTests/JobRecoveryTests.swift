import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnProtect
import CairnReshard
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// Ranks that restart together from a store with parity: all take the same step, whichever of them meets the damage.
@Suite struct JobRecoveryTests {
    private let storage = MemoryStorage()

    private var store: CheckpointStore { CheckpointStore(storage: storage, name: "store") }

    private func tensor(_ axis: String, _ count: Int) throws -> PlacedTensor {
        PlacedTensor(
            name: "w", scalarType: .f32, shape: [8, 1024], layout: try Layout(DeviceMesh([axis: count]), [axis: .shard(0)]))
    }

    /// Steps 2 and 3, saved by four ranks; every element is its step. Step 3 is protected.
    init() throws {
        let tensor = try tensor("tp", 4)
        let store = CheckpointStore(storage: storage, name: "store")
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
            let shared = try ShardedStore(store, over: communicator)
            for step in [2, 3] {
                var state = try ShardedState(rank: communicator.rank, rankCount: 4, tensors: [tensor])
                try state.set(Tensor([Float](repeating: Float(step), count: 2 * 1024), [2, 1024]), for: "w")
                try shared.save(state, step: step)
            }
        }
        try store.protect(step: 3, options: Samples.options(2, layout: .files))
    }

    private func restart(writingBack: Bool = false) throws -> [Restart<ShardedState>] {
        let tensor = try tensor("dp", 2)
        let recovery = RecoveryOrder([CheckpointTier("disk", store: store).repairedByParity(writingBack: writingBack)])
        return try ThreadCommunicator.run(ranks: 2) { communicator in
            try recovery.load([tensor], over: communicator)
        }.compactMap { $0 }
    }

    private func expect(_ parts: [Restart<ShardedState>], _ step: Int, _ decisions: [String]) throws {
        #expect(parts.count == 2)
        for part in parts {
            #expect(part.step == step)
            #expect(try #require(part.state.local("w")).elements(as: Float.self).allSatisfy { $0 == Float(step) })
            let found = part.decisions.map { decision in
                "\(decision.step ?? -1) \(decision.outcome.rawValue)" + (decision.repair == nil ? "" : " by parity")
            }
            #expect(found == decisions)
        }
        #expect(parts.first?.decisions.last?.repair?.files == parts.last?.decisions.last?.repair?.files)
    }

    private func key(_ rank: Int) throws -> String {
        try #require(try storage.list("step-00000003/rank-0000\(rank)").first).key
    }

    private func flip(_ rank: Int) throws {
        var bytes = try storage.readAll(key(rank))
        bytes[bytes.count - 9] ^= 1
        try storage.publish(bytes, as: key(rank))
    }

    @Test func damageThatEachRankMeetsElsewhereIsRepairedForAll() throws {
        let whole = try Samples.contents(of: storage)
        // The first rank reads files 0 and 1, the second 2 and 3.
        try flip(1)
        try storage.delete([key(2)])
        let parts = try restart()
        try expect(parts, 3, ["3 damaged", "3 loaded by parity"])
        #expect(parts.first?.decisions.last?.repair?.files.count == 2)
        let mended = try restart(writingBack: true)
        try expect(mended, 3, ["3 damaged", "3 loaded by parity"])
        #expect(mended.allSatisfy { $0.decisions.last?.repair?.isWrittenBack == true })
        #expect(try Samples.contents(of: storage) == whole)
    }

    @Test func damageOfOneRankAloneTakesTheOtherAlong() throws {
        try flip(3)
        try expect(restart(), 3, ["3 damaged", "3 loaded by parity"])
    }

    @Test func aLostManifestComesBackForAll() throws {
        try storage.delete(["step-00000003/manifest.json"])
        try expect(restart(), 3, ["3 loaded by parity"])
    }

    @Test func beyondParityAllTakeTheOlderStep() throws {
        for rank in 0..<3 { try storage.delete([key(rank)]) }
        try expect(restart(), 2, ["3 damaged", "3 quarantined by parity", "2 loaded"])
        #expect(try store.quarantine(ofStep: 3) != nil)
        try expect(restart(), 2, ["3 skipped", "3 damaged by parity", "2 loaded"])
    }
}
