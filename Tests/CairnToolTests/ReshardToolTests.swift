import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

@Suite struct ReshardToolTests {
    private func directory() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        let rules = """
            cairn-rules: 1
            mesh: {dp: , tp: }
            rules:
              - {name: weights, from: "layer.weight", to: "layer.weight", placement: [{tp: {shard: 0}}]}
              - {name: head, from: "head.weight", to: "head.weight", placement: [{tp: {shard: 0}}]}
              - {name: rest, from: "{x**}", to: "{x**}", except: [layer.weight, head.weight]}
            """
        try Data(rules.utf8).write(to: URL(fileURLWithPath: directory.path("rules.yaml")))
        return directory
    }

    @Test(arguments: [["--layout", "fsdp"], ["--layout", "zero"], ["--layout", "replicated"], ["--rules", "rules.yaml"]])
    func aReshardedCheckpointIsTheSameInAsManyFilesAsRanks(layout: [String]) throws {
        let directory = try directory()
        let run = try ToolRun(
            ["reshard", "run@4", "out", "--mesh", "dp=2,tp=2", "--json"] + layout, in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        guard run.exitCode == 0 else { return }
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-reshard/1")
        #expect(try document.integer("ranks") == 4 && document.integer("step") == 4)
        #expect(try ToolRun("verify", "out", "--deep", in: directory).exitCode == 0)
        #expect(try ToolRun("diff", "run@4", "out@4", in: directory).exitCode == 0)
        let back = try ToolRun(
            "reshard", "out", "out", "--mesh", "dp=1", "--layout", "fsdp", "--step", "5", in: directory)
        #expect(back.exitCode == 0, "\(back.errors)")
        #expect(try ToolRun("diff", "run@4", "out@5", in: directory).exitCode == 0)
    }

    @Test func nothingIsReplacedWithoutForceNorTheSourceEver() throws {
        let directory = try directory()
        let command = ["reshard", "run@4", "out", "--mesh", "dp=2", "--layout", "fsdp"]
        #expect(try ToolRun(command, in: directory).exitCode == 0)
        #expect(try ToolRun(command, in: directory).failedInOneLine)
        #expect(try ToolRun(command + ["--force"], in: directory).exitCode == 0)
        let over = ["reshard", "run@4", "run", "--mesh", "dp=2", "--layout", "fsdp", "--force"]
        #expect(try ToolRun(over, in: directory).failedInOneLine)
    }

    @Test func whateverWritesARunCompresses() throws {
        let directory = try TemporaryDirectory()
        var state = TrainingState()
        // Weights whose exponents hardly vary, and bytes that nothing makes smaller.
        let count = 1 << 18
        state.set(Tensor((0..<count).map { 1 + Float($0 % 977) / 977 }), for: "w")
        var generator = SeededGenerator(seed: 3)
        state.set(Tensor((0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }), for: "noise")
        try CheckpointStore(path: directory.path("run")).save(state, step: 1)
        func byteCount(_ run: String) throws -> Int {
            try LocalStorage(root: directory.path(run)).list("").reduce(0) { $0 + $1.byteCount }
        }
        let before = try ToolRun("digest", "run@1", "--json", in: directory).document()
        for arguments in [
            ["convert", "run@1", "out", "--to", "cairn"], ["reshard", "run@1", "out", "--mesh", "dp=3", "--layout", "fsdp"],
            ["average", "run@1", "run@1", "-o", "out", "--to", "cairn", "--others", "first"],
        ] {
            let written = try ToolRun(arguments + ["--compress", "--level", "1"], in: directory)
            #expect(written.exitCode == 0, "\(written.errors)")
            #expect(try byteCount("out") < byteCount("run") * 3 / 4, "\(arguments)")
            #expect(try ToolRun("verify", "out", "--deep", in: directory).exitCode == 0)
            let after = try ToolRun("digest", "out@1", "--json", in: directory).document()
            #expect(try before.array("tensors") == after.array("tensors"), "\(arguments)")
            try LocalStorage(root: directory.path).delete(LocalStorage(root: directory.path).list("out/").map(\.key))
        }
        let refused = try ToolRun("convert", "run@1", "x.pt", "--to", "torch", "--compress", in: directory)
        #expect(refused.exitCode == 64 && refused.errors.contains("--compress goes with --to cairn only"))
        #expect(try ToolRun("convert", "run@1", "out", "--to", "cairn", "--level", "20", in: directory).exitCode == 64)
    }

    @Test func aPlanIsComputedWithoutReading() throws {
        let directory = try directory()
        let run = try ToolRun(
            "plan", "run@4", "--mesh", "dp=2,tp=1", "--rules", "rules.yaml", "--json", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let ranks = try run.document().array("ranks").map { try $0.asObject() }
        #expect(ranks.count == 2)
        // Six and four floats, two 64-bit integers.
        #expect(try ranks[0].integer("needed_bytes") == 56)
        #expect(try ranks[0].integer("files") == 1)
        let one = try ToolRun("plan", "run@4", "--mesh", "dp=2", "--layout", "fsdp", "--rank", "1", in: directory)
        #expect(one.exitCode == 0 && one.output.contains("RANK"))
        #expect(
            try ToolRun("plan", "run@4", "--mesh", "dp=2", "--layout", "fsdp", "--rank", "2", in: directory)
                .failedInOneLine)
    }

    @Test func aTensorThatNoRulePlacesIsNamed() throws {
        let directory = try directory()
        let rules = "cairn-rules: 1\nmesh: {tp: }\nrules:\n  - {name: a, from: tokens, to: tokens}\n"
        try Data(rules.utf8).write(to: URL(fileURLWithPath: directory.path("few.yaml")))
        let run = try ToolRun("reshard", "run@4", "out", "--mesh", "tp=2", "--rules", "few.yaml", in: directory)
        #expect(run.failedInOneLine)
        #expect(run.errors.contains("layer.weight"), "\(run.errors)")
        #expect(!FileManager.default.fileExists(atPath: directory.path("out")))
    }

    @Test func aSimulationSaysWhatALargeJobCosts() throws {
        let directory = try TemporaryDirectory()
        let command = [
            "simulate", "--model", "llama-7b", "--mesh", "tp=2,pp=4,dp=8", "--zero", "--to-mesh", "tp=4,dp=4",
        ]
        let run = try ToolRun(command + ["--json"], in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-simulate/1")
        #expect(try document.integer("parameters") == 6_738_415_616)
        #expect(try document.object("save").integer("total_bytes") == 14 * 6_738_415_616)
        #expect(try document.object("load").integer("ranks") == 16)
        #expect(try ToolRun(command, in: directory).output.contains("manifest"))
        #expect(try ToolRun("simulate", "--model", "x", "--mesh", "dp=2", in: directory).failedInOneLine)
    }
}
