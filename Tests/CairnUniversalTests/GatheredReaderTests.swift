import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnTesting
import CairnUniversal
import Synchronization
import Testing

/// What is read of shards, and how much.
@Suite struct GatheredReaderTests {
    /// Counts what is read of a checkpoint.
    private final class CountingReader: CheckpointReader {
        let base: MemoryCheckpoint
        private let counts = Mutex((total: 0, largest: 0))

        init(_ base: MemoryCheckpoint) { self.base = base }

        var format: String { base.format }
        var source: String { base.source }
        var tensors: [TensorDescription] { base.tensors }
        var values: [NamedValue] { base.values }
        var total: Int { counts.withLock { $0.total } }
        var largest: Int { counts.withLock { $0.largest } }

        func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
            let count = destination.byteCount
            counts.withLock { $0 = ($0.total + count, max($0.largest, count)) }
            try base.read(name, region: region, into: &destination)
        }
    }

    private func specification() throws -> UniversalSpec {
        try UniversalSpec(mesh: ["dp", "tp"]) {
            Rule("w", from: "w", to: ["q", "k"]) {
                On("tp", .shard(0))
                Apply(.split(dimension: 0, sizes: [96, 32], groups: 2))
            }
            Rule("v", from: "v", to: "v") { On("tp", .shard(1)) }
        }
    }

    private func parts() throws -> [CountingReader] {
        var generator = SeededGenerator(seed: 1)
        var logical = MemoryCheckpoint()
        try logical.add("q", .f32, [192, 64], using: &generator)
        try logical.add("k", .f32, [64, 64], using: &generator)
        try logical.add("v", .f32, [64, 64], using: &generator)
        let sharded = try ShardedCheckpoint(logical, spec: specification(), mesh: ["dp": 2, "tp": 4])
        return try shards(sharded).map(CountingReader.init)
    }

    @Test func nothingIsReadUntilARegionIsAskedForAndThenOnlyThat() throws {
        let shards = try parts()
        let gathered = try GatheredReader(shards, spec: specification(), mesh: ["tp": 4])
        _ = try specification().explain(shards, mesh: ["tp": 4])
        #expect(shards.allSatisfy { $0.total == 0 })
        let region = try Region(offsets: [95, 8], shape: [2, 5])
        _ = try Tensor(.f32, region.shape) { try gathered.read("q", region: region, into: &$0) }
        #expect(shards.reduce(0) { $0 + $1.total } == 2 * 5 * 4)
    }

    @Test func aCopyReadsEachByteOnceInBoundedPieces() throws {
        let shards = try parts()
        let gathered = try GatheredReader(shards, spec: specification(), mesh: ["tp": 4])
        let writer = DiscardingWriter()
        _ = try copyCheckpoint(from: gathered, to: writer, bufferByteCount: 2048)
        #expect(writer.byteCount == (192 + 64 + 64) * 64 * 4)
        #expect(shards.reduce(0) { $0 + $1.total } == writer.byteCount)
        #expect(shards.map(\.largest).max() ?? 0 <= 2048)
        // Replicas share the reads: pieces of 2048 bytes are many enough for chance to be fair.
        let first = shards[..<4].reduce(0) { $0 + $1.total }
        #expect((writer.byteCount / 3...writer.byteCount * 2 / 3).contains(first), "\(first) of \(writer.byteCount)")
    }

    private final class DiscardingWriter: CheckpointWriter {
        var byteCount = 0

        func begin(tensors: [TensorDescription], values: [NamedValue]) -> [String] { [] }
        func append(_ bytes: RawSpan) { byteCount += bytes.byteCount }
        func finish() {}
        func discard() {}
    }

    @Test func valuesOfAllRanksKeepTheirNamesAndOthersTheirRank() throws {
        var shards: [MemoryCheckpoint] = []
        for rank in 0..<2 {
            var shard = MemoryCheckpoint(["w": try Tensor(zeros: .f32, [2])])
            shard.values = [
                NamedValue(name: "rng.state", value: .integer(Int64(rank))), NamedValue(name: "step", value: 5),
            ]
            shards.append(shard)
        }
        let spec = try UniversalSpec(mesh: ["dp"]) { Rule("w", from: "w", to: "w") }
        let gathered = try GatheredReader(shards, spec: spec)
        #expect(gathered.values.map(\.name) == ["rank.0.rng.state", "rank.1.rng.state", "step"])
        let sharded = try ShardedCheckpoint(gathered, spec: spec, mesh: ["dp": 2])
        for rank in 0..<2 { #expect(try sharded.shard(ofRank: rank).values == shards[rank].values) }
    }

    @Test func termsAreSummedOrAveraged() throws {
        let shards = [
            MemoryCheckpoint(["a": Tensor([1, 2] as [Float]), "b": Tensor([1, 2] as [Float])]),
            MemoryCheckpoint(["a": Tensor([3, 5] as [Float]), "b": Tensor([3, 5] as [Float])]),
        ]
        let spec = try UniversalSpec(mesh: ["dp"]) {
            Rule("a", from: "a", to: "a") { On("dp", .partial(.sum)) }
            Rule("b", from: "b", to: "b") { On("dp", .partial(.mean)) }
        }
        let gathered = try GatheredReader(shards, spec: spec)
        #expect(try gathered.tensor("a").elements(as: Float.self) == [4, 7])
        #expect(try gathered.tensor("b").elements(as: Float.self) == [2, 3.5])
        let sharded = try ShardedCheckpoint(gathered, spec: spec, mesh: ["dp": 2], allowsLosses: true)
        #expect(try sharded.shard(ofRank: 0).tensor("a").elements(as: Float.self) == [4, 7])
        #expect(try sharded.shard(ofRank: 1).tensor("a").elements(as: Float.self) == [0, 0])
        #expect(try sharded.shard(ofRank: 1).tensor("b").elements(as: Float.self) == [2, 3.5])
    }

    @Test func aTieIsWrittenToEveryRankThatHoldsIt() throws {
        let spec = try UniversalSpec(mesh: ["pp"]) {
            Rule("embedding", from: "embed", to: "embed") { On("pp", .present(on: [0])) }
            Rule("head", from: "head", to: "head") {
                On("pp", .present(on: ["pp.size - 1"]))
                Tied(to: "embed")
            }
        }
        // The logical checkpoint need not list the tied name.
        let logical = MemoryCheckpoint(["embed": Tensor([1, 2] as [Float])])
        let sharded = try ShardedCheckpoint(logical, spec: spec, mesh: ["pp": 2])
        let parts = try shards(sharded)
        #expect(parts.map { $0.tensors.map(\.name) } == [["embed"], ["head"]])
        let gathered = try GatheredReader(parts, spec: spec, verifiesReplicas: true)
        #expect(gathered.tensors.map(\.tiedTo) == [nil, "embed"])
        #expect(try gathered.tensor("head") == logical.tensor("embed"))
    }

    @Test func momentsGoTheSameWayAsTheirParameters() throws {
        let spec = try UniversalSpec(mesh: ["dp", "tp"]) {
            Moment(
                "m", from: "opt.{fqn}.m", to: "m.{fqn}", scalarType: .f32,
                placement: [On("dp", .flatten(.perTensor))])
            Rule("w", from: "w.{n}", to: ["a.{n}", "b.{n}"]) {
                On("tp", .shard(1))
                Apply(.cast(from: .bf16, to: .f32))
                Apply(.split(dimension: 0))
            }
        }
        var generator = SeededGenerator(seed: 9)
        var logical = MemoryCheckpoint()
        for name in ["a.0", "b.0", "a.1", "b.1"] {
            try logical.add("m." + name, .f32, [3, 4], using: &generator)
            try logical.add(name, .bf16, [3, 4], using: &generator)
            logical.add(name, try logical.tensor(name).converted(to: .f32))
        }
        let parts = try shards(ShardedCheckpoint(logical, spec: spec, mesh: ["dp": 3, "tp": 2]))
        #expect(try parts[0].description(of: "opt.w.0.m").shape == [4])
        #expect(try parts[0].description(of: "w.0").scalarType == .bf16)
        #expect(try difference(GatheredReader(parts, spec: spec, mesh: ["tp": 2]), logical) == nil)
    }
}
