import CairnBase
import CairnLayout
import CairnLayoutTesting
import CairnTensor
import Testing

/// What a layout must not say, and what is said about it.
@Suite struct RefusedLayoutTests {
    private func message(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "nothing was thrown"
        } catch {
            return "\(error)"
        }
    }

    private let mesh = try? DeviceMesh(["dp": 2, "tp": 4])

    private func layoutMessage(_ steps: KeyValuePairs<String, Placement>, padding: [Int: Int] = [:]) throws -> String {
        let mesh = try #require(mesh)
        return message { _ = try Layout(mesh, steps, padding: padding) }
    }

    private func shapeMessage(
        _ steps: KeyValuePairs<String, Placement>, _ shape: Shape, padding: [Int: Int] = [:]
    ) throws -> String {
        let layout = try Layout(#require(mesh), steps, padding: padding)
        let tensor = PlacedTensor(name: "wq", scalarType: .f32, shape: shape, layout: layout)
        return message { _ = try tensor.sharded() }
    }

    @Test func stepsThatMakeNoSenseAreRefusedWithTheirAxis() throws {
        #expect(try layoutMessage(["cp": .replicate]).contains("\"cp\", which the mesh does not have"))
        #expect(try layoutMessage(["dp": .shard(0), "dp": .shard(1)]).contains("\"dp\": two steps use it"))
        #expect(
            try layoutMessage(["dp": .flatten(.perTensor), "tp": .shard(0)])
                .contains("\"tp\": it shards what axis \"dp\" has flattened"))
        #expect(
            try layoutMessage(["dp": .flatten(.perTensor), "tp": .flatten(.perTensor)]).contains("has flattened"))
        #expect(try layoutMessage(["dp": .shard(-1)]).contains("negative dimension"))
        #expect(try layoutMessage(["dp": .shard(0, unit: 0)]).contains("unit must be at least 1"))
        #expect(try layoutMessage(["dp": .shard(0, sections: [])]).contains("no section"))
        #expect(try layoutMessage(["dp": .shard(0, sections: [.init(size: 1)], repeats: 0)]).contains("repeat"))
        #expect(try layoutMessage(["dp": .shard(0, sections: [.init(size: -1)])]).contains("negative"))
        #expect(
            try layoutMessage(["dp": .shard(0, sections: [.init(size: nil), .init(size: 1)])])
                .contains("leave its size open"))
        #expect(try layoutMessage(["tp": .shard(0, .sizes([1, 2]))]).contains("expected 4 sizes, found 2"))
        #expect(try layoutMessage(["dp": .shard(0, .sizes([1, 2]), unit: 2)]).contains("multiples of 2"))
        #expect(try layoutMessage(["dp": .present(on: [])]).contains("no coordinate"))
        #expect(try layoutMessage(["dp": .present(on: [0, 2])]).contains("below 2"))
        #expect(try layoutMessage(["dp": .present(on: [1, 0])]).contains("do not ascend"))
        #expect(try layoutMessage(["dp": .partial(.sum), "tp": .partial(.mean)]).contains("not reduced the same way"))
        #expect(try layoutMessage(["dp": .flatten(.init(start: -1, partition: .equal(2)))]).contains("negative"))
        #expect(try layoutMessage(["dp": .flatten(.init(start: 1, partition: .perTensor))]).contains("begins at 0"))
        #expect(try layoutMessage(["dp": .flatten(.init(partition: .equal(.max)))]).contains("out of range"))
        #expect(try layoutMessage(["dp": .flatten(.init(partition: .cuts([0, 1])))]).contains("3 boundaries"))
        #expect(try layoutMessage(["dp": .flatten(.init(partition: .cuts([0, 2, 1])))]).contains("do not ascend"))
        #expect(try layoutMessage([:], padding: [-1: 3]).contains("padding is negative"))
    }

    @Test func shapesThatDoNotFitAreRefusedWithTensorDimensionAndAxis() throws {
        let indivisible = try shapeMessage(["tp": .shard(1)], [4, 6])
        for part in ["\"wq\"", "dimension 1 of [4, 6]", "\"tp\"", "expected 4 equal parts", "extent 6", "pad"] {
            #expect(indivisible.contains(part), "\(part) in \(indivisible)")
        }
        #expect(try shapeMessage(["tp": .shard(2)], [4, 6]).contains("shards a dimension that the tensor does not"))
        #expect(try shapeMessage(["tp": .shard(0)], .scalar).contains("shards a dimension that the tensor does not"))
        #expect(try shapeMessage(["dp": .shard(0), "tp": .shard(0)], [12]).contains("extent 6"))
        #expect(try shapeMessage(["dp": .shard(0, unit: 3)], [8]).contains("whole units of 3"))
        #expect(
            try shapeMessage(["dp": .shard(0, sections: [.init(size: 4), .init(size: 2)], repeats: 2)], [16])
                .contains("sections that sum to 12"))
        #expect(try shapeMessage(["dp": .shard(0, sections: [.init(size: nil)], repeats: 3)], [16]).contains("repeats"))
        #expect(try shapeMessage(["dp": .shard(0, .sizes([3, 4]))], [8]).contains("sizes that sum to 7"))
        #expect(try shapeMessage([:], [8], padding: [0: 7]).contains("less than it has"))
        #expect(try shapeMessage([:], [8], padding: [1: 7]).contains("pads a dimension that the tensor does not"))
        #expect(try shapeMessage([:], [1 << 40, 8], padding: [1: 1 << 40]).contains("overflows"))
        #expect(
            try shapeMessage(["dp": .flatten(.init(start: 3, partition: .equal(5)))], [8])
                .contains("does not hold the whole tensor (expected 3 + 8 elements in at most 2 x 5"))
        #expect(try shapeMessage(["dp": .flatten(.init(start: 0, partition: .cuts([1, 4, 9])))], [8]).contains("1..<9"))
    }

    /// Every small case: an even step behind an uneven one is accepted when each extent that can be left divides.
    @Test func aStepIsAcceptedOnlyIfItDividesWhateverTheEarlierOneLeaves() throws {
        for parts in 1...5 {
            for second in 2...3 {
                let mesh = try DeviceMesh(["a": parts, "b": second])
                for unit in 1...4 {
                    for division in [Division.chunked, .balanced] {
                        let placement = Placement.shard(0, division, unit: unit)
                        let layout = try Layout(mesh, ["a": placement, "b": .shard(0)])
                        guard case .shard(let sharding) = placement else { return }
                        for extent in 0...30 {
                            let owners = ElementOracle.owners(along: extent, sharding, parts: parts)
                            let divides = (0..<parts).allSatisfy { part in
                                owners.filter { $0 == part }.count % second == 0
                            }
                            let accepted = (try? ShardedShape(layout, shape: [extent])) != nil
                            #expect(accepted == divides, "\(extent) by \(layout) on \(mesh)")
                        }
                    }
                }
            }
        }
    }

    @Test func explicitRegionsAreProvenOrTheHoleIsNamed() throws {
        let mesh = try DeviceMesh(["dp": 2])
        func box(_ offsets: [Int], _ extents: [Int]) throws -> Region {
            try Region(offsets: offsets, shape: Shape(extents))
        }
        func proof(_ regions: [[Region]]) -> String {
            message { try ShardedShape(Layout(mesh, explicit: regions), shape: [4, 4]).proveCoverage() }
        }
        let upper = try box([0, 0], [2, 4])
        let lower = try box([2, 0], [2, 4])
        #expect(proof([[upper], [lower]]) == "nothing was thrown")
        #expect(proof([[upper, lower], [lower, try box([3, 1], [1, 2])]]) == "nothing was thrown")
        #expect(proof([[upper], [try box([2, 0], [2, 3])]]).contains("a hole that begins at [2, 3]"))
        #expect(proof([[upper], [try box([3, 0], [1, 4])]]).contains("a hole that begins at [2, 0]"))
        #expect(proof([[], []]).contains("a hole that begins at [0, 0]"))
        #expect(proof([[upper], [try box([1, 0], [3, 4])]]).contains("overlap in part"))
        #expect(proof([[upper, upper], [lower]]).contains("twice"))
        #expect(proof([[try box([3, 0], [2, 4])], []]).contains("lies outside"))
        #expect(proof([[upper]]).contains("expected 2 lists"))
        let layout = try Layout(mesh, explicit: [[upper], []])
        let tensor = PlacedTensor(name: "wq", scalarType: .f32, shape: [4, 4], layout: layout)
        let plan = message { _ = try WritePlan([tensor]) }
        #expect(plan.contains("\"wq\"") && plan.contains("a hole"))
    }

    @Test func everyHoleAndOverlapOfRandomBoxesIsSeen() throws {
        LayoutSeeds.forEach(1500, of: 5_000_000) { seed in
            var layouts = RandomLayouts(seed: seed)
            let mesh = try DeviceMesh(["dp": 3])
            let shape = layouts.shape(maximumElementCount: 60)
            var regions = try #require(layouts.explicit(shape, on: mesh).explicit)
            let rank = layouts.random.pick(0...2)
            if layouts.random.isLucky(50), !regions[rank].isEmpty {
                regions[rank].remove(at: layouts.random.pick(0...regions[rank].count - 1))
            } else {
                let region = try layouts.region(of: shape)
                if !regions[rank].contains(region) { regions[rank].append(region) }
            }
            let all = regions.joined().filter { $0.elementCount > 0 }
            let covered = Set(all.flatMap { ElementOracle.elements(of: $0, in: shape) })
            let overlap = all.contains { one in
                all.contains { other in
                    guard let common = one.intersection(other) else { return false }
                    return common != one && common != other
                }
            }
            let isSound = covered.count == shape.elementCount && !overlap
            let said = message { try ShardedShape(Layout(mesh, explicit: regions), shape: shape).proveCoverage() }
            #expect((said == "nothing was thrown") == isSound, "seed \(seed): \(said), \(regions) of \(shape)")
        }
    }

    @Test func plansOfTensorsThatCannotBeOneStateAreRefused() throws {
        let layout = Layout.replicated(on: try #require(mesh))
        let tensor = PlacedTensor(name: "a", scalarType: .f32, shape: [4], layout: layout)
        #expect(message { _ = try WritePlan([tensor, tensor]) }.contains("same name"))
        let other = PlacedTensor(
            name: "b", scalarType: .f32, shape: [4], layout: .replicated(on: try DeviceMesh(["dp": 4])))
        #expect(message { _ = try WritePlan([tensor, other]) }.contains("expected 8, as of \"a\", found 4 in dp=4"))
        let huge = PlacedTensor(name: "c", scalarType: .f64, shape: [1 << 61], layout: layout)
        #expect(message { _ = try WritePlan([huge]) }.contains("overflows"))
        #expect(try WritePlan([]).writes(ofRank: 0).isEmpty)
    }
}
