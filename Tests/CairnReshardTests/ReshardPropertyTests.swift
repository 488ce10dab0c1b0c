import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnLayoutTesting
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite struct ReshardPropertyTests {
    /// How many random cases: a few here, as many as asked for in a soak.
    private static let rounds = getenv("CAIRN_SOAK_LAYOUTS").flatMap { Int(String(cString: $0)) } ?? 400

    @Test func whatIsSavedUnderOneLayoutLoadsUnderAnyOther() throws {
        let first = UInt64.random(in: 0...UInt64.max / 2)
        for round in 0..<UInt64(Self.rounds) {
            let seed = first + round
            do {
                try Self.check(seed: seed)
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
        }
    }

    private static func check(seed: UInt64) throws {
        var layouts = RandomLayouts(seed: seed)
        let saved = try RandomState(&layouts, rankCount: layouts.random.pick(1...6))
        let wanted = try RandomState(of: saved, &layouts, rankCount: layouts.random.pick(1...6))
        let chunkByteCount = 4096
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        let manifests = try ThreadCommunicator.run(ranks: saved.rankCount) { communicator in
            var options = SaveOptions()
            options.chunkByteCount = chunkByteCount
            options.concurrency = 1
            var state = try saved.state(ofRank: communicator.rank)
            state.values = [NamedValue(name: "step", value: .integer(7))]
            state.rankValues = [NamedValue(name: "rank", value: .integer(Int64(communicator.rank)))]
            return try ShardedStore(store, over: communicator).save(state, step: 7, options: options)
        }
        try require(manifests[0] != nil && manifests.dropFirst().allSatisfy { $0 == nil }, "only rank 0 has a manifest")
        let reader = try store.open(step: 7)
        let report = try reader.verify()
        try require(report.isValid, "verification: \(report.damages.map(\.error))")
        let whole = try TrainingState(reading: reader)
        for (name, tensor) in saved.whole {
            try require(try whole.tensor(name) == tensor, "the whole of \(name)")
        }
        for rank in 0..<wanted.rankCount {
            let plan = try ReadPlan(reading: reader, rank: rank, tensors: wanted.tensors)
            let loaded = try plan.execute(reading: reader)
            for tensor in wanted.tensors {
                let expected = try wanted.local(tensor, rank: rank)
                try require(loaded.local(tensor.name) == expected, "rank \(rank) of \(tensor)")
            }
            try require(loaded.values.contains { $0.name == "step" && $0.value == .integer(7) }, "the values")
            // By regions, as from a format that knows no fragments.
            let selected = try ReadPlan(reading: RegionReader(reader), rank: rank, tensors: wanted.tensors)
                .execute(reading: RegionReader(reader))
            for tensor in wanted.tensors {
                try require(selected.local(tensor.name) == loaded.local(tensor.name), "rank \(rank) by regions")
            }
        }
    }

    private static func require(_ condition: Bool, _ what: String) throws {
        if !condition { throw CairnError(.mismatch, what) }
    }
}
