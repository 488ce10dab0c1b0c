import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnUniversal
import Testing

/// What rules make of a whole checkpoint's tensors: layouts for ranks that load it.
@Suite struct PlacedTensorsTests {
    private func logical(_ shapes: KeyValuePairs<String, Shape>) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        for (name, shape) in shapes { checkpoint.add(name, try Tensor(zeros: .f32, shape)) }
        return checkpoint
    }

    @Test func paddingAndTypeOfTheRanksAreKept() throws {
        let spec = try UniversalSpec(mesh: ["dp", "tp"], parameters: ["vocab": 90]) {
            Rule("embedding", from: "embedding", to: "embed") {
                On("tp", .shard(0))
                On("dp", .flatten(.perTensor))
                Apply(.strip(dimension: 0, extent: "vocab", multiple: "16*tp.size"))
                Apply(.cast(from: .bf16, to: .f32))
            }
            Rule("norm", from: "norm", to: "norm")
        }
        let placed = try spec.placedTensors(of: logical(["embed": [90, 6], "norm": [6]]), mesh: ["dp": 2, "tp": 2])
        #expect(
            placed.map(\.description) == [
                "embed BF16 [90, 6] on dp=2,tp=2: tp: shard 0, dp: flatten, dimension 0 padded to 96",
                "norm F32 [6] on dp=2,tp=2: replicate",
            ])
        // As the ranks of the foreign checkpoint have it: 48 rows each of the padded, halved.
        let last = try #require(try placed.first?.sharded())
        #expect(last.localShape(ofRank: 3) == [144])
        #expect(last.fragments(ofRank: 3).reduce(0) { $0 + $1.global.elementCount } == (90 - 72) * 6)
    }

    @Test func tensorsThatAreMadeOfOthersHaveNoLayout() throws {
        for transform in [RuleTransform.transpose, .pad(dimension: 0, extent: 4, multiple: 3)] {
            let spec = try UniversalSpec(mesh: []) { Rule("w", from: "w", to: "w") { Apply(transform) } }
            #expect {
                _ = try spec.placedTensors(of: logical(["w": [6, 4]]))
            } throws: { error in
                let text = "\(error)"
                return text.contains("rule \"w\"") && text.contains("tensor \"w\"")
            }
        }
    }

    /// Layers that every stage numbers through, as pipelines other than Megatron's do.
    @Test func layersMayBeNumberedThroughOnTheirStages() throws {
        let range = "{n:pp*layers/pp.size..<(pp + 1)*layers/pp.size}"
        let spec = try UniversalSpec(mesh: ["dp", "pp"], parameters: ["layers": 6]) {
            Rule("layers", from: "layers.\(range).w", to: "l.{n}.w")
            Rule("embed", from: "embed", to: "embed") { On("pp", .present(on: [0])) }
        }
        var shapes: [String: Shape] = ["embed": [2]]
        for layer in 0..<6 { shapes["l.\(layer).w"] = [layer + 1] }
        var whole = MemoryCheckpoint()
        for (name, shape) in shapes { whole.add(name, try Tensor(zeros: .f32, shape)) }
        for stages in [1, 2, 3, 6] {
            let sharded = try ShardedCheckpoint(whole, spec: spec, mesh: ["dp": 2, "pp": stages])
            let parts = try shards(sharded)
            let last = parts[2 * stages - 1].tensors.map(\.name).filter { $0.hasPrefix("layers") }
            #expect(last == ((6 - 6 / stages)..<6).map { "layers.\($0).w" })
            #expect(try difference(GatheredReader(parts, spec: spec, mesh: ["pp": stages]), whole) == nil)
            let placed = try spec.placedTensors(of: whole, mesh: ["dp": 2, "pp": stages])
            let middle = placed.first { $0.name == "l.3.w" }
            #expect(try middle?.sharded().holders(of: Region(whole: [4])).map(\.ranks.count) == [2])
        }
    }
}
