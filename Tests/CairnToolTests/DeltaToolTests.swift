import CairnBase
import CairnCheckpoint
import CairnTesting
import Foundation
import Testing

@Suite struct DeltaTool {
    @Test func deltasOfARunAreAppliedToAnyFormatAndComeOutAsTheyWere() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 4])
        for (one, other) in [(1, 2), (2, 4)] {
            let run = try ToolRun("delta", "run@\(one)", "run@\(other)", "-o", "\(other).delta", "--json", in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
            let document = try run.document()
            #expect(try document.string("schema") == "cairn-delta/1")
            #expect(try document.integer("changed_tensors") > 0)
            let inspected = try ToolRun("inspect", "\(other).delta", "--json", in: directory).document()
            #expect(try inspected.string("schema") == "cairn-inspect-delta/1" && inspected.integer("changed_elements") > 0)
            #expect(try inspected.object("base").string("source") == "run@\(one)")
            let text = try ToolRun("inspect", "\(other).delta", in: directory).output
            #expect(text.contains("a delta of run@\(one) (step \(one)), which makes run@\(other)"), "\(text)")
        }
        #expect(
            try ToolRun("convert", "run@1", "1.safetensors", "--to", "safetensors", in: directory).exitCode == 0)
        let applied = try ToolRun(
            "apply", "1.safetensors", "2.delta", "4.delta", "-o", "made", "--to", "cairn", "--json", in: directory)
        #expect(applied.exitCode == 0, "\(applied.errors)")
        #expect(try applied.document().integer("step") == 4)
        let digests = try ["run@4", "made@4"].map { path -> String in
            let run = try ToolRun("digest", path, in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
            return run.output
        }
        #expect(digests[0] == digests[1])
        let lineage = try #require(try CheckpointStore(path: directory.path("made")).open(step: 4).manifest.lineage)
        #expect(lineage.operation == "delta" && lineage.parents.count == 3)
    }

    @Test func whatDoesNotFitIsRefusedAndNothingIsLeft() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 4])
        for step in [2, 4] {
            let run = try ToolRun("delta", "run@\(step / 2)", "run@\(step)", "-o", "\(step).delta", in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
        }
        let again = try ToolRun("delta", "run@1", "run@2", "-o", "2.delta", in: directory)
        #expect(again.failedInOneLine && again.errors.contains("--force"), "\(again.errors)")
        #expect(try ToolRun("delta", "run@1", "run@2", "-o", "2.delta", "--force", in: directory).exitCode == 0)
        let wrong = try ToolRun("apply", "run@4", "2.delta", "-o", "x.safetensors", in: directory)
        #expect(wrong.failedInOneLine && wrong.errors.contains("does not apply"), "\(wrong.errors)")
        let order = try ToolRun("apply", "run@1", "4.delta", "2.delta", "-o", "x.safetensors", in: directory)
        #expect(order.exitCode == 2, "\(order.errors)")
        let other = try ToolRun("apply", "run@1", "run/step-00000001", "-o", "x.safetensors", in: directory)
        #expect(other.exitCode == 2)
        #expect(!FileManager.default.fileExists(atPath: directory.path("x.safetensors")))
        // Over the source.
        let over = try ToolRun("apply", "run@1", "2.delta", "-o", "2.delta", "--to", "npz", "--force", in: directory)
        #expect(over.failedInOneLine && over.errors.contains("source"), "\(over.errors)")
        let usage = try ToolRun("apply", "run@1", "2.delta", "-o", "x", in: directory)
        #expect(usage.exitCode == 64)
    }
}

@Suite struct GraftTool {
    @Test func aGraftKeepsTheBitsAndInspectShowsTheAgeOfItsParts() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2])
        let names = try CheckpointStore(path: directory.path("run")).open(step: 1).tensors.map(\.name)
        let taken = try #require(names.first)
        for (output, format) in [("mixed", "cairn"), ("mixed.safetensors", "safetensors")] {
            let run = try ToolRun(
                "graft", "run@2", "--take", "run@1:\(taken)", "-o", output, "--to", format, "--json", in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
            #expect(try run.document().string("schema") == "cairn-graft/1")
            let inspected = try ToolRun("inspect", output, in: directory)
            #expect(inspected.output.contains("grafted"), "\(inspected.output)")
            #expect(inspected.output.contains("\(taken) (1 tensor) of step 1 of "))
        }
        let reader = try CheckpointStore(path: directory.path("mixed")).open(step: 2)
        let old = try CheckpointStore(path: directory.path("run")).open(step: 1)
        let new = try CheckpointStore(path: directory.path("run")).open(step: 2)
        for name in names {
            #expect(try reader.tensor(name) == (name == taken ? old : new).tensor(name))
        }
        let wrong = try ToolRun("graft", "run@2", "--take", "run@1:none.*", "-o", "x.safetensors", in: directory)
        #expect(wrong.exitCode == 2 && wrong.errors.contains("none.*"))
        #expect(try ToolRun("graft", "run@2", "--take", "run@1", "-o", "x.safetensors", in: directory).exitCode == 64)
    }
}
