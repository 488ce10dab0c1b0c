import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnTensor
import CairnUniversal
import Testing

/// Names by way of whole specifications: what rules claim, and what they call it.
@Suite struct NamePatternTests {
    private func scalars(_ names: [String]) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        for (index, name) in names.enumerated() {
            checkpoint.add(name, try Tensor([Float(index)], [1]))
        }
        return checkpoint
    }

    private func renamed(_ names: [String], _ from: String, _ to: String) throws -> [String] {
        let spec = try UniversalSpec(mesh: []) { Rule("r", from: from, to: to) }
        let gathered = try GatheredReader([scalars(names)], spec: spec)
        let back = try ShardReader(gathered, spec: spec, rank: 0)
        #expect(back.tensors.map(\.name) == names.sorted())
        return gathered.tensors.map(\.name)
    }

    @Test func aCaptureTakesOneSegmentAndTwoStarsTakeMany() throws {
        #expect(try renamed(["a.b.w", "a.c.w"], "a.{x}.w", "{x}.weight") == ["b.weight", "c.weight"])
        #expect(try renamed(["m.a.b.w"], "m.{path**}.w", "{path}") == ["a.b"])
        #expect(try renamed(["m.a.b.c"], "m.**.*", "**/*") == ["a.b/c"])
        #expect(throws: CairnError.self) { try renamed(["a.b.c.w"], "a.{x}.w", "{x}") }
    }

    @Test func aCaptureMayBeBoundToARangeOrAChoice() throws {
        #expect(try renamed(["l.0.wq", "l.3.wk"], "l.{n:0..<4}.{k:wq|wk}", "{k}.{n}") == ["wk.3", "wq.0"])
        #expect(throws: CairnError.self) { try renamed(["l.4.wq"], "l.{n:0..<4}.{k:wq|wk}", "{k}.{n}") }
        #expect(throws: CairnError.self) { try renamed(["l.03.wq"], "l.{n:0..<4}.{k:wq|wk}", "{k}.{n}") }
    }

    @Test func partsOfASegmentAreCapturedAndSignsAreTakenAsTheyAre() throws {
        #expect(try renamed(["layer_12-x"], "layer_{n}-{r}", "{n}.{r}") == ["12.x"])
        #expect(try renamed(["a*b{c}"], "a\\*{x}\\{c\\}", "{x}") == ["b"])
    }

    @Test func arithmeticOnCapturesIsUndone() throws {
        #expect(try renamed(["l.0", "l.5"], "l.{n}", "layer.{2*n + 3}") == ["layer.13", "layer.3"])
        // Chunks of a virtual pipeline: two digits of mixed radix.
        #expect(
            try renamed(
                ["c.0.l.1", "c.1.l.0", "c.1.l.2"], "c.{chunk:0..<2}.l.{n:0..<3}", "layer.{3*chunk + n}")
                == ["layer.1", "layer.3", "layer.5"])
    }

    @Test(.timeLimit(.minutes(1))) func aPatternOfManyStarsEndsSoon() throws {
        let name = String(repeating: "a.", count: 400) + "a"
        #expect(throws: CairnError.self) {
            try renamed([name], (1...14).map { "{x\($0)**}" }.joined(separator: ".") + ".b", "y")
        }
        let spec = try UniversalSpec(mesh: []) {
            Rule.drop("r", from: (1...14).map { _ in "**" }.joined(separator: ".") + ".b")
        }
        #expect(throws: CairnError.self) { try GatheredReader([scalars([name])], spec: spec) }
    }

    @Test func layersAreNumberedThroughOverPipelineStages() throws {
        let spec = try UniversalSpec(mesh: ["pp"], parameters: ["layers": 4]) {
            Rule("l", from: "l.{n:0..<layers/pp.size}", to: "layer.{n + pp*layers/pp.size}")
        }
        let gathered = try GatheredReader([scalars(["l.0", "l.1"]), scalars(["l.0", "l.1"])], spec: spec)
        #expect(gathered.tensors.map(\.name) == ["layer.0", "layer.1", "layer.2", "layer.3"])
        #expect(try gathered.tensor("layer.3").elements(as: Float.self) == [1])
        let four = try ShardedCheckpoint(gathered, spec: spec, mesh: ["pp": 4])
        #expect(try four.shard(ofRank: 3).tensors.map(\.name) == ["l.0"])
        #expect(try four.shard(ofRank: 3).tensor("l.0") == gathered.tensor("layer.3"))
    }
}
