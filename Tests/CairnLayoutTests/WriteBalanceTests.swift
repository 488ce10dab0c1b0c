import CairnBase
import CairnLayout
import CairnTensor
import Testing

/// How evenly ranks share the bytes, and the rule written out.
@Suite struct WriteBalanceTests {
    /// Two tensors of 2 and 6 MiB over 4 replicas: 2 MiB of the byte sequence each.
    @Test func replicasWriteTheRowsThatTheirShareOfTheTapeHolds() throws {
        let layout = Layout.replicated(on: try DeviceMesh(["dp": 4]))
        let plan = try WritePlan([
            PlacedTensor(name: "a", scalarType: .u8, shape: [2, 1 << 20], layout: layout),
            PlacedTensor(name: "b", scalarType: .u8, shape: [3 << 10, 2 << 10], layout: layout),
        ])
        let writes = (0..<4).map { rank in
            plan.writes(ofRank: rank).map { "\($0.tensor) \($0.global)" }.joined(separator: "; ")
        }
        #expect(
            writes == [
                "0 [0..<2, 0..<1048576]", "1 [0..<1024, 0..<2048]", "1 [1024..<2048, 0..<2048]",
                "1 [2048..<3072, 0..<2048]",
            ])
        let third = plan.fragments(ofTensor: 1, intersecting: try Region(offsets: [2047, 0], shape: [2, 1]))
        #expect(third.map(\.rank) == [2, 3])
    }

    /// The longest dimension of a box with fewer than 256 rows is cut, so that few experts do not mean few writers.
    @Test func fewRowsAreCutAlongTheLongestDimension() throws {
        let layout = Layout.replicated(on: try DeviceMesh(["dp": 16]))
        let plan = try WritePlan([
            PlacedTensor(name: "experts", scalarType: .bf16, shape: [8, 4096, 128], layout: layout)
        ])
        #expect(plan.writes(ofRank: 1).map { "\($0.global)" } == ["[0..<8, 256..<512, 0..<128]"])
    }

    @Test func smallAndPackedTensorsAreWrittenWhole() throws {
        let layout = Layout.replicated(on: try DeviceMesh(["dp": 2]))
        let plan = try WritePlan([
            PlacedTensor(name: "a", scalarType: .f4, shape: [4096, 2048], layout: layout),
            PlacedTensor(name: "b", scalarType: .u8, shape: [(1 << 20) - 1], layout: layout),
            PlacedTensor(name: "c", scalarType: .u8, shape: [1 << 20], layout: layout),
        ])
        #expect(plan.writes(ofRank: 0).map(\.tensor) == [0])
        #expect(plan.writes(ofRank: 1).map(\.tensor) == [1, 2])
        #expect(plan.byteCount(ofRank: 0) == 4 << 20)
    }

    @Test func termsAreStoredInALeadingDimension() throws {
        let layout = try Layout(DeviceMesh(["dp": 2]), ["dp": .partial(.mean)])
        let plan = try WritePlan([PlacedTensor(name: "a", scalarType: .f32, shape: [3], layout: layout)])
        #expect(plan.storedShape(ofTensor: 0) == [2, 3])
        #expect(plan.writes(ofRank: 1).map { "\($0.global) \($0.local)" } == ["[1..<2, 0..<3] [0..<3]"])
        let found = plan.fragments(ofTensor: 0, intersecting: try Region(offsets: [1, 2], shape: [1, 1]))
        #expect(found.map(\.rank) == [1])
    }

    @Test(arguments: [["dp": 64], ["dp": 8, "tp": 8], ["dp": 100], ["pp": 4, "dp": 16]] as [KeyValuePairs<String, Int>])
    func ranksOfATransformerWriteNearlyTheSame(_ axes: KeyValuePairs<String, Int>) throws {
        let transformer = Transformer(layers: 16, hidden: 2048, keyValue: 512, inner: 8192, vocabulary: 50304)
        let mesh = try DeviceMesh(axes)
        let plan = try WritePlan(transformer.tensors(on: mesh, shardsOptimizer: false))
        let bytes = (0..<mesh.rankCount).map { plan.byteCount(ofRank: $0) }
        let largest = try #require(bytes.max())
        let mean = Double(bytes.reduce(0, +)) / Double(bytes.count)
        print("write balance on \(mesh): largest \(largest) bytes, \(Double(largest) / mean) times the mean")
        // With stages the first and last hold more; among the ranks of one stage there is no such excuse.
        if mesh.size(of: "pp") == nil { #expect(Double(largest) < 1.05 * mean) }
        for first in stride(from: 0, to: bytes.count, by: 16) where mesh.size(of: "pp") != nil {
            let stage = bytes[first..<first + 16]
            #expect(Double(try #require(stage.max())) * 16 < 1.05 * Double(stage.reduce(0, +)))
        }
    }
}
