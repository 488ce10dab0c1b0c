import CairnBase
import CairnLayout
import CairnLayoutTesting
import CairnTensor
import Testing

/// Layouts of every kind against a follower of single elements.
@Suite struct RandomLayoutTests {
    @Test func fragmentsOfEveryRankAreTheElementsThatFollowingEachOneFinds() throws {
        LayoutSeeds.forEach(3000, of: 1_000_000) { seed in
            var layouts = RandomLayouts(seed: seed)
            let mesh = try layouts.mesh()
            let shape = layouts.shape()
            let layout = try layouts.layout(of: shape, on: mesh)
            let sharded = try ShardedShape(layout, shape: shape)
            try sharded.proveCoverage()
            for rank in 0..<mesh.rankCount {
                let expected = ElementOracle.local(layout, shape, rank: rank)
                let comment = "rank \(rank), \(sharded)"
                guard sharded.localShape(ofRank: rank)?.extents == expected?.extents else {
                    throw LayoutSeeds.Failure("local shape, \(comment)")
                }
                guard found(sharded, rank) == expected?.elements ?? [] else {
                    throw LayoutSeeds.Failure("elements, \(comment): \(sharded.fragments(ofRank: rank))")
                }
            }
        }
    }

    /// The local tensor that the fragments describe; empty where it is absent or something is written twice.
    private func found(_ sharded: ShardedShape, _ rank: Int) -> [Int] {
        guard let shape = sharded.localShape(ofRank: rank) else { return [] }
        var elements = [Int](repeating: -1, count: shape.elementCount)
        var previous = -1
        for fragment in sharded.fragments(ofRank: rank) {
            let globals = ElementOracle.elements(of: fragment.global, in: sharded.shape)
            let locals = ElementOracle.elements(of: fragment.local, in: shape)
            guard !globals.isEmpty, globals.count == locals.count, locals[0] > previous else { return [] }
            previous = locals[0]
            for (global, local) in zip(globals, locals) {
                guard elements[local] == -1 else { return [] }
                elements[local] = global
            }
        }
        return elements
    }

    @Test func holdersOfARegionAreTheRanksThatHoldItsElements() throws {
        LayoutSeeds.forEach(2000, of: 2_000_000) { seed in
            var layouts = RandomLayouts(seed: seed)
            let mesh = try layouts.mesh()
            let shape = layouts.shape(maximumElementCount: 300)
            let layout = try layouts.layout(of: shape, on: mesh)
            let sharded = try ShardedShape(layout, shape: shape)
            let region = layouts.random.isLucky(20) ? Region(whole: shape) : try layouts.region(of: shape)
            let wanted = Set(ElementOracle.elements(of: region, in: shape))
            var expected: [[Int]: Int] = [:]  // [element, rank, partial value]
            for rank in 0..<mesh.rankCount {
                for element in ElementOracle.local(layout, shape, rank: rank)?.elements ?? []
                where wanted.contains(element) {
                    expected[[element, rank, sharded.partialIndex(ofRank: rank)], default: 0] += 1
                }
            }
            var found: [[Int]: Int] = [:]
            for holder in sharded.holders(of: region) {
                for element in ElementOracle.elements(of: holder.region, in: shape) {
                    for rank in holder.ranks { found[[element, rank, holder.partialIndex], default: 0] += 1 }
                }
                let ranks = Array(holder.ranks)
                let members = (-1...mesh.rankCount).filter { holder.ranks.contains($0) }
                #expect(ranks == members && holder.ranks.count == ranks.count && holder.ranks.first == ranks.first)
            }
            guard found == expected else {
                throw LayoutSeeds.Failure("\(region) of \(sharded): \(sharded.holders(of: region))")
            }
        }
    }

    @Test func whatOfARegionLiesOutsideHasNoHolder() throws {
        let mesh = try DeviceMesh(["tp": 2, "dp": 2])
        for steps in [["tp": .shard(0)], ["tp": .shard(0), "dp": .flatten(.perTensor)], [:]]
            as [KeyValuePairs<String, Placement>]
        {
            let sharded = try ShardedShape(Layout(mesh, steps), shape: [8])
            #expect(sharded.holders(of: try Region(offsets: [8], shape: [50])).isEmpty)
            let beyond = sharded.holders(of: try Region(offsets: [7], shape: [1 << 60]))
            #expect(beyond.map { "\($0.region)" } == ["[7..<8]"])
            #expect(sharded.holders(of: try Region(offsets: [0, 0], shape: [1, 1])).isEmpty)
        }
    }

    @Test func termsNumberTheCoordinatesOfPartialAxes() throws {
        let mesh = try DeviceMesh(["a": 2, "b": 3, "c": 2])
        let sharded = try ShardedShape(Layout(mesh, ["c": .partial(.sum), "a": .partial(.sum)]), shape: [4])
        #expect(sharded.partialCount == 4)
        #expect((0..<12).map { sharded.partialIndex(ofRank: $0) } == [0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3])
    }

    @Test func jsonReadsBackAsTheSameLayoutInTheSameBytes() throws {
        LayoutSeeds.forEach(2000, of: 3_000_000) { seed in
            var layouts = RandomLayouts(seed: seed)
            let mesh = try layouts.mesh()
            let layout = try layouts.layout(of: layouts.shape(), on: mesh)
            let bytes = LayoutCoding.encode(layout)
            let read = try LayoutCoding.decode(bytes)
            guard read == layout, LayoutCoding.encode(read) == bytes else {
                throw LayoutSeeds.Failure(String(decoding: bytes, as: UTF8.self))
            }
        }
    }
}
