import CairnBase
import CairnLayout
import CairnLayoutTesting
import CairnTensor
import Testing

/// Plans of states of random layouts: every element once, with the content that belongs there.
@Suite struct RandomWritePlanTests {
    @Test func everyElementIsWrittenOnceAndFoundWhereItWasWritten() throws {
        LayoutSeeds.forEach(800, of: 4_000_000) { seed in
            var layouts = RandomLayouts(seed: seed)
            let mesh = try layouts.mesh(maximumRankCount: 24)
            var tensors: [PlacedTensor] = []
            for index in 0..<layouts.random.pick(1...7) {
                let other = layouts.random.isLucky(25) ? try layouts.mesh(rankCount: mesh.rankCount) : mesh
                tensors.append(try layouts.tensor("tensor \(index)", on: other))
            }
            let rule = WriteRule(
                smallestCutByteCount: layouts.random.pick(0...200), fineExtent: layouts.random.pick(2...16))
            let plan = try WritePlan(tensors, rule: rule)
            guard try check(plan, &layouts) else {
                throw LayoutSeeds.Failure("\(rule): \(tensors)")
            }
        }
    }

    private func check(_ plan: WritePlan, _ layouts: inout RandomLayouts) throws -> Bool {
        var counts = plan.tensors.indices.map {
            [Int](repeating: 0, count: plan.storedShape(ofTensor: $0).elementCount)
        }
        var written = plan.tensors.map { _ in Set<WritePlan.Written>() }
        for rank in 0..<plan.rankCount {
            var bytes = 0
            for write in plan.writes(ofRank: rank) {
                let tensor = plan.tensors[write.tensor]
                let sharded = plan.shardedShape(ofTensor: write.tensor)
                guard let local = ElementOracle.local(tensor.layout, tensor.shape, rank: rank) else { return false }
                let globals = ElementOracle.elements(of: write.global, in: plan.storedShape(ofTensor: write.tensor))
                let locals = ElementOracle.elements(of: write.local, in: Shape(local.extents))
                let start = sharded.partialIndex(ofRank: rank) * tensor.shape.elementCount
                guard !globals.isEmpty, globals.count == locals.count else { return false }
                for (global, place) in zip(globals, locals) {
                    counts[write.tensor][global] += 1
                    guard local.elements[place] + start == global else { return false }
                }
                let place = WritePlan.Written(rank: rank, region: write.global)
                guard written[write.tensor].insert(place).inserted else { return false }
                bytes += globals.count * tensor.scalarType.bitWidth / 8
            }
            guard plan.byteCount(ofRank: rank) == bytes else { return false }
        }
        guard counts.allSatisfy({ $0.allSatisfy { $0 == 1 } }) else { return false }
        for index in plan.tensors.indices {
            let all = plan.fragments(ofTensor: index)
            guard Set(all) == written[index], all.count == written[index].count else { return false }
            let region = try layouts.region(of: plan.storedShape(ofTensor: index))
            let some = plan.fragments(ofTensor: index, intersecting: region)
            let expected = written[index].filter { $0.region.intersection(region) != nil }
            guard Set(some) == expected, some.count == expected.count else { return false }
        }
        return true
    }
}
