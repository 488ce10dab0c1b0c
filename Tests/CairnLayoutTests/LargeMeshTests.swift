import CairnBase
import CairnLayout
import CairnTensor
import Testing

/// Llama 3.1 405B with Adam on 16,384 ranks: what a rank asks of its plan.
@Suite struct LargeMeshTests {
    private let model = Transformer(layers: 126, hidden: 16384, keyValue: 1024, inner: 53248, vocabulary: 128256)

    @Test func oneRankFindsItsPartOfALargeState() throws {
        let clock = ContinuousClock()
        let mesh = try DeviceMesh(["dp": 128, "pp": 16, "tp": 8])
        for shardsOptimizer in [false, true] {
            let tensors = try model.tensors(on: mesh, shardsOptimizer: shardsOptimizer)
            var plan = try WritePlan([])
            let planning = try clock.measure { plan = try WritePlan(tensors) }
            var writes: [WritePlan.Write] = []
            let listing = clock.measure { writes = plan.writes(ofRank: 5000) }
            var bytes = 0
            let counting = clock.measure { bytes = plan.byteCount(ofRank: 5000) }
            let name = try #require(tensors.firstIndex { $0.name == "master.layers.40.w1" })
            let region = try Region(offsets: [20_000, 0], shape: [8, 16384])
            var found: [WritePlan.Written] = []
            let finding = clock.measure { found = plan.fragments(ofTensor: name, intersecting: region) }
            var holders: [ShardedShape.Holder] = []
            let holding = clock.measure { holders = plan.shardedShape(ofTensor: name).holders(of: region) }
            print(
                """
                \(tensors.count) tensors on \(mesh), optimizer \(shardsOptimizer ? "flat over dp" : "replicated"): \
                plan \(planning), \(writes.count) writes of rank 5000 \(listing), \(bytes) bytes \(counting), \
                \(found.count) boxes meet a region \(finding), \(holders.count) holders \(holding)
                """)
            let sum = writes.reduce(0) { $0 + $1.local.elementCount * tensors[$1.tensor].scalarType.bitWidth / 8 }
            #expect(sum == bytes)
            let covered = holders.reduce(0) { $0 + $1.region.elementCount }
            #expect(covered == region.elementCount)
            let read = found.reduce(0) { $0 + ($1.region.intersection(region)?.elementCount ?? 0) }
            #expect(read == region.elementCount)
        }
    }

    @Test func allRanksTogetherWriteTheStateOnce() throws {
        let mesh = try DeviceMesh(["dp": 16, "pp": 4, "tp": 8])
        let tensors = try model.tensors(on: mesh, shardsOptimizer: true)
        let plan = try WritePlan(tensors)
        let written = (0..<mesh.rankCount).reduce(0) { $0 + plan.byteCount(ofRank: $1) }
        #expect(written == tensors.reduce(0) { $0 + $1.shape.elementCount * $1.scalarType.bitWidth / 8 })
    }
}
