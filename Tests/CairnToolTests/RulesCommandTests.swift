import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Foundation
import Testing

@Suite struct RulesCommandTests {
    private let rules = """
        cairn-rules: 1
        mesh: {tp: }
        rules:
          - {name: weights, from: "w.{n}", to: "weight.{n}", placement: [{tp: {shard: 0}}]}
          - {name: norm, from: norm, to: norm}

        """

    /// A directory with a rank's file for each of two ranks, and a whole file; rules beside them.
    private func directory(norm: [Float] = [7, 8]) throws -> TemporaryDirectory {
        let made = try TemporaryDirectory()
        try rules.write(toFile: made.path("rules.yaml"), atomically: true, encoding: .utf8)
        try FileManager.default.createDirectory(atPath: made.path("shards"), withIntermediateDirectories: true)
        func write(_ path: String, _ rows: Range<Int>) throws {
            var state = TrainingState()
            for layer in 0..<2 {
                let elements = rows.flatMap { row in (0..<3).map { Float(100 * layer + 3 * row + $0) } }
                state.set(try Tensor(elements, [rows.count, 3]), for: "w.\(layer)")
            }
            state.set(Tensor(norm), for: "norm")
            let store = CheckpointStore(path: made.path("run"))
            var options = SaveOptions()
            options.replacing = true
            try store.save(state, step: 0, options: options)
            let run = try ToolRun("convert", made.path("run"), path, "--to", "safetensors", in: made)
            #expect(run.exitCode == 0, "\(run.errors)")
        }
        try write(made.path("shards/rank-0.safetensors"), 0..<2)
        try write(made.path("shards/rank-1.safetensors"), 2..<4)
        try write(made.path("whole.safetensors"), 0..<4)
        return made
    }

    @Test func checkTellsWhatEachTensorBecomes() throws {
        let directory = try directory()
        let run = try ToolRun("rules", "check", "rules.yaml", "shards", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(run.output.contains("weight.1"))
        #expect(run.output.contains("F32[4, 3]"))
        #expect(run.output.contains("fits; 3 logical tensors on the mesh tp=2"))
        let json = try ToolRun(
            "rules", "check", "rules.yaml", "shards/rank-0.safetensors", "shards/rank-1.safetensors", "--mesh", "tp=2",
            "--json", in: directory)
        #expect(json.exitCode == 0)
        let document = try json.document()
        #expect(document["schema"] == .string("cairn-rules-check/1"))
        #expect(document["ok"] == .bool(true))
        #expect(try document.array("applications").count == 3)
        #expect(try document.array("problems").isEmpty)
    }

    @Test func checkSaysNoAndListsEveryProblem() throws {
        let directory = try directory()
        let broken = rules.replacingOccurrences(of: "from: norm", with: "from: normal")
        try broken.write(toFile: directory.path("rules.yaml"), atomically: true, encoding: .utf8)
        let run = try ToolRun("rules", "check", "rules.yaml", "shards", in: directory)
        #expect(run.exitCode == 1)
        #expect(run.output.contains("no rule claims 1 foreign tensor (found norm)"))
        #expect(run.output.contains("rule \"norm\": it matches nothing"))
        #expect(run.output.contains("does not fit: 2 problems"))
    }

    @Test func whatCannotBeReadIsSaidInOneLine() throws {
        let directory = try directory()
        #expect(try ToolRun("rules", "check", "none.yaml", "shards", in: directory).failedInOneLine)
        #expect(try ToolRun("rules", "check", "rules.yaml", "nowhere", in: directory).failedInOneLine)
        #expect(try ToolRun("rules", "check", "rules.yaml", "shards", "--mesh", "tp=3", in: directory).failedInOneLine)
        #expect(try ToolRun("rules", "preset", "none", in: directory).failedInOneLine)
        try "cairn-rules: 1\nruels: []\n".write(
            toFile: directory.path("rules.yaml"), atomically: true, encoding: .utf8)
        let run = try ToolRun("rules", "check", "rules.yaml", "shards", in: directory)
        #expect(run.failedInOneLine)
        #expect(run.errors.contains("rules.yaml: line 2: nothing is called \"ruels\""))
        #expect(try ToolRun("rules", "check", "rules.yaml", "s", "--mesh", "tp", in: directory).exitCode == 64)
    }

    @Test func inferProposesRulesThatCheckAccepts() throws {
        let directory = try directory()
        let run = try ToolRun("rules", "infer", "shards", "whole.safetensors", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(run.output.contains("# sharded over dimension 0: both sets gather to the same bits"))
        try run.output.write(toFile: directory.path("rules.yaml"), atomically: true, encoding: .utf8)
        #expect(try ToolRun("rules", "check", "rules.yaml", "shards", in: directory).exitCode == 0)
        let json = try ToolRun("rules", "infer", "shards", "whole.safetensors", "--json", in: directory).document()
        #expect(json["schema"] == .string("cairn-rules-infer/1"))
        #expect(try json.array("rules").count == 2)
    }

    @Test func shardsBecomeAWholeCheckpointAndShardsAgain() throws {
        let directory = try directory()
        let gathered = try ToolRun(
            "convert", "shards", "gathered.safetensors", "--to", "safetensors", "--rules", "rules.yaml", in: directory)
        #expect(gathered.exitCode == 0, "\(gathered.errors)")
        let run = try ToolRun(
            "convert", "shards", "all", "--to", "cairn", "--rules", "rules.yaml", "--mesh", "tp=2", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(try ToolRun("diff", "all", "gathered.safetensors", in: directory).exitCode == 0)
        // The whole that the shards were cut from has the foreign names.
        let back = try ToolRun(
            "convert", "gathered.safetensors", "back.safetensors", "--to", "safetensors", "--rename", "weight.*=w.$1",
            in: directory)
        #expect(back.exitCode == 0)
        #expect(try ToolRun("diff", "back.safetensors", "whole.safetensors", in: directory).exitCode == 0)
        let sharded = try ToolRun(
            "rules", "divide", "rules.yaml", "gathered.safetensors", "four", "--mesh", "tp=4", "--json", in: directory)
        #expect(sharded.exitCode == 0, "\(sharded.errors)")
        #expect(try sharded.document().integer("ranks") == 4)
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.path("four")).sorted()
        #expect(names == (0..<4).map { "rank-0000\($0).safetensors" })
        let again = try ToolRun(
            "convert", "four", "again.safetensors", "--to", "safetensors", "--rules", "rules.yaml", in: directory)
        #expect(again.exitCode == 0)
        #expect(try ToolRun("diff", "again.safetensors", "gathered.safetensors", in: directory).exitCode == 0)
    }

    @Test func whatCannotBeGatheredOrShardedLeavesNothing() throws {
        let directory = try directory()
        let before = try FileManager.default.contentsOfDirectory(atPath: directory.url.path).sorted()
        let foreign = try ToolRun(
            "rules", "divide", "rules.yaml", "whole.safetensors", "x", "--mesh", "tp=2", in: directory)
        #expect(foreign.failedInOneLine && foreign.errors.contains("no rule claims 2 logical"), "\(foreign.errors)")
        #expect(
            try ToolRun(
                "rules", "divide", "rules.yaml", "shards", "shards", "--mesh", "tp=2", in: directory
            ).failedInOneLine)
        let open = try ToolRun(
            "convert", "shards", "x.safetensors", "--to", "safetensors", "--rules", "rules.yaml", "--mesh", "tp=3",
            in: directory)
        #expect(open.failedInOneLine && open.errors.contains("tp=3"), "\(open.errors)")
        #expect(
            try ToolRun(
                "convert", "shards", "shards", "--to", "safetensors", "--rules", "rules.yaml", in: directory
            )
            .failedInOneLine)
        #expect(
            try ToolRun(
                "convert", "shards", "x", "--to", "safetensors", "--mesh", "tp=2", in: directory
            ).exitCode == 64)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.url.path).sorted() == before)
    }

    @Test func presetsAreListedAndPrintedWithNumbersOfOnesOwn() throws {
        let directory = try TemporaryDirectory()
        let list = try ToolRun("rules", "preset", in: directory)
        #expect(list.exitCode == 0 && list.output.contains("megatron-llama"))
        let run = try ToolRun("rules", "preset", "megatron-llama", "--set", "layers=24,vocab=32000", in: directory)
        #expect(run.exitCode == 0)
        #expect(run.output.contains("  layers: 24\n") && run.output.contains("  vocab: 32000\n"))
        #expect(try ToolRun("rules", "preset", "megatron-gpt", "--set", "nothing=1", in: directory).failedInOneLine)
    }
}
