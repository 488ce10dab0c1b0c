import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// Ranks that restart together from tiers of which some hold damage.
@Suite struct RestartTierTests {
    private static let shape: Shape = [8, 1024]

    private let near = CheckpointStore(storage: MemoryStorage(), name: "near")
    private let far = CheckpointStore(storage: MemoryStorage(), name: "far")

    /// Near has steps 2 and 3, far 1 and 2, saved by four ranks; every element is its step.
    init() throws {
        let (near, far) = (near, far)
        let mesh = try DeviceMesh(["tp": 4])
        let tensor = PlacedTensor(
            name: "w", scalarType: .f32, shape: Self.shape, layout: try Layout(mesh, ["tp": .shard(0)]))
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
            for (store, steps) in [(near, [2, 3]), (far, [1, 2])] {
                let shared = try ShardedStore(store, over: communicator)
                for step in steps {
                    var state = try ShardedState(rank: communicator.rank, rankCount: 4, tensors: [tensor])
                    try state.set(Tensor([Float](repeating: Float(step), count: 2 * 1024), [2, 1024]), for: "w")
                    try shared.save(state, step: step)
                }
            }
        }
    }

    /// Restarts on two ranks, which need two files each.
    private func restart(_ name: String = "w", _ tiers: [(String, CheckpointStore)]? = nil) throws -> [Restart<ShardedState>?] {
        let mesh = try DeviceMesh(["dp": 2])
        let tensor = PlacedTensor(
            name: name, scalarType: .f32, shape: Self.shape, layout: try Layout(mesh, ["dp": .shard(0)]))
        let recovery = RecoveryOrder((tiers ?? [("near", near), ("far", far)]).map { CheckpointTier($0.0, store: $0.1) })
        return try ThreadCommunicator.run(ranks: 2) { communicator in
            try recovery.load([tensor], over: communicator)
        }
    }

    private func change(_ store: CheckpointStore, _ name: String, step: Int, _ body: (inout [UInt8]) -> Void) throws {
        let entries = try store.storage.list(StepName.prefix(step) + name)
        let key = try #require(entries.first).key
        var bytes = try store.storage.readAll(key)
        body(&bytes)
        try store.storage.publish(bytes, as: key)
    }

    private func expect(_ parts: [Restart<ShardedState>?], _ tier: String, _ step: Int, _ outcomes: [String]) throws {
        #expect(parts.count == 2)
        for part in parts {
            let part = try #require(part)
            #expect(part.tier == tier && part.manifest.step == step)
            let elements = try #require(part.state.local("w")).elements(as: Float.self)
            #expect(elements.count == 4 * 1024 && elements.allSatisfy { $0 == Float(step) })
            let found = part.decisions.map { "\($0.tier) \($0.step ?? -1) \($0.outcome.rawValue)" }
            #expect(found == outcomes)
        }
    }

    @Test func theNewestOfTheNearestTierIsLoadedByAll() throws {
        try expect(restart(), "near", 3, ["near 3 loaded"])
    }

    @Test(arguments: 0..<4)
    func whatOneRankFindsDamagedIsQuarantinedForAll(file: Int) throws {
        try change(near, "rank-0000\(file)", step: 3) { $0[$0.count - 9] ^= 1 }
        let parts = try restart()
        try expect(parts, "near", 2, ["near 3 quarantined", "near 2 loaded"])
        #expect(parts.allSatisfy { $0?.decisions[0].error?.context.rank == file / 2 })
        #expect(try near.quarantine(ofStep: 3)?.saveID == near.open(step: 3).manifest.saveID)
        try expect(restart(), "near", 2, ["near 3 skipped", "near 2 loaded"])
    }

    @Test func theOtherTiersCopyOfAStepIsTakenNext() throws {
        try change(near, "manifest", step: 3) { $0.removeLast(5) }
        let lost = try near.storage.list("step-00000002/rank-00003").map(\.key)
        try near.storage.delete(lost)
        try expect(restart(), "far", 2, ["near 3 quarantined", "near 2 quarantined", "far 2 loaded"])
        #expect(throws: CairnError.self) { try near.loadLatest() }
    }

    @Test func withNothingThereAllStartAnewAndWithNothingUsableNoneDoes() throws {
        let empty = CheckpointStore(storage: MemoryStorage(), name: "empty")
        #expect(try restart("w", [("empty", empty)]).allSatisfy { $0 == nil })
        for step in [2, 3] { try change(near, "rank-00000", step: step) { $0.removeLast() } }
        let error = #expect(throws: CairnError.self) { try restart("w", [("near", near), ("empty", empty)]) }
        #expect(error?.code == .nothingUsable)
        #expect((error?.cause as? RestartFailure)?.decisions.map(\.outcome) == [.quarantined, .quarantined])
    }

    @Test func aTensorThatTheStateNeverHadIsRefusedAndQuarantinesNothing() throws {
        let error = #expect(throws: CairnError.self) { try restart("v") }
        #expect(error?.code == .notFound && error?.context.tensor == "v")
        #expect(try near.quarantine(ofStep: 3) == nil)
    }
}
