import CairnBase
import CairnCheckpoint
import CairnTesting
import Foundation
import Testing

@Suite struct StoreCommands {
    @Test func theListTellsWholeDamagedAndUnfinishedCheckpointsApart() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 3])
        try "{}".write(toFile: directory.path("run/step-00000002/manifest.json"), atomically: true, encoding: .utf8)
        try FileManager.default.removeItem(atPath: directory.path("run/step-00000003/manifest.json"))
        let document = try ToolRun("ls", "run", "--json", in: directory).document()
        #expect(try document.string("schema") == "cairn-ls/1")
        let rows = try document.array("checkpoints").map { try $0.asObject() }
        #expect(try rows.map { try $0.integer("step") } == [1, 2, 3])
        #expect(try rows.map { try $0.string("state") } == ["committed", "damaged", "debris"])
        #expect(try rows[0].object("metrics").double("loss") == 0.5)
        let table = try ToolRun("ls", "run", in: directory)
        #expect(table.exitCode == 0)
        #expect(table.output.contains("loss=0.5"))
        #expect(!table.output.contains("\u{1B}"))
    }

    @Test func aDirectoryOfSomethingElseIsNoRun() throws {
        let directory = try TemporaryDirectory()
        try "hello".write(toFile: directory.path("text"), atomically: true, encoding: .utf8)
        #expect(try ToolRun("ls", ".", in: directory).failedInOneLine)
        #expect(try ToolRun("prune", ".", "--keep-last", "1", in: directory).failedInOneLine)
    }

    @Test func verifyNamesTheDamagedPlaceAndExitsWith1() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2])
        #expect(try ToolRun("verify", "run", "--deep", in: directory).exitCode == 0)
        try Corruption.flipLastByte(ofRankFileIn: directory, checkpoint: "run/step-00000002")
        #expect(try ToolRun("verify", "run@1", "--deep", in: directory).exitCode == 0)
        let run = try ToolRun("verify", "run", "--deep", "--json", in: directory)
        #expect(run.exitCode == 1)
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-verify/1")
        #expect(try !document.bool("ok"))
        let checkpoints = try document.array("checkpoints").map { try $0.asObject() }
        #expect(try checkpoints.map { try $0.bool("ok") } == [true, false])
        let damage = try checkpoints[1].array("damage").map { try $0.asObject() }
        #expect(damage.count == 1)
        #expect(try damage[0].string("file").contains("rank-00000"))
        #expect(try !damage[0].string("tensor").isEmpty)
        #expect(try damage[0].integer("offset") > 0)
        #expect(try damage[0].integer("chunk") == 0)
        #expect(try damage[0].string("file").hasPrefix("run/step-00000002/rank-00000-"))
    }

    @Test func safetensorsAreCheckedForStructureAndSaidToHaveNoChecksums() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        _ = try ToolRun("convert", "run", "model.safetensors", "--to", "safetensors", in: directory)
        let whole = try ToolRun("verify", "model.safetensors", "--deep", in: directory)
        #expect(whole.exitCode == 0)
        #expect(whole.errors.contains("no checksums"))
        let url = URL(fileURLWithPath: directory.path("model.safetensors"))
        try Data(contentsOf: url).dropLast().write(to: url)
        let short = try ToolRun("verify", "model.safetensors", in: directory)
        #expect(short.exitCode == 1, "\(short.errors)")
        #expect(short.output.contains("damaged"))
        #expect(try ToolRun("verify", "missing.safetensors", in: directory).failedInOneLine)
    }

    @Test func pruneKeepsWhatAnyRuleKeeps() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 3, 4, 5, 6])
        let arguments = ["prune", "run", "--keep-last", "1", "--keep-every", "4", "--json"]
        let planned = try ToolRun(arguments + ["--dry-run"], in: directory).document()
        #expect(try planned.string("schema") == "cairn-prune/1")
        #expect(try planned.array("kept") == [.integer(4), .integer(6)])
        #expect(try directory.names("run").count == 6)
        let done = try ToolRun(arguments, in: directory).document()
        #expect(done["deleted"] == planned["deleted"])
        #expect(try directory.names("run") == ["step-00000004", "step-00000006"])
        let best = try ToolRun(
            "prune", "run", "--keep-best", "1", "--metric", "loss", "--larger-is-better", in: directory)
        #expect(best.exitCode == 0)
        #expect(try directory.names("run").contains("step-00000004"))
    }

    /// A mistyped metric would make none the best, and delete the one that was meant.
    @Test func pruneRefusesAMetricThatNoCheckpointHas() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 3])
        let run = try ToolRun("prune", "run", "--keep-last", "1", "--keep-best", "1", "--metric", "lss", in: directory)
        #expect(run.exitCode != 0 && run.errors.contains("\"lss\"") && run.errors.contains("loss"), "\(run.errors)")
        #expect(try directory.names("run").count == 3)
        #expect(try ToolRun("prune", "run", "--keep-last", "1", "--metric", "lss", in: directory).exitCode == 0)
    }

    @Test func repairBringsBackALostManifestWithTheSameDigest() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 3])
        let digest = try ToolRun("digest", "run@2", "--json", in: directory).output
        let manifests = ["run/step-00000002/manifest.json", "run/step-00000003/manifest.json"]
        try FileManager.default.removeItem(atPath: directory.path(manifests[0]))
        try "{}".write(toFile: directory.path(manifests[1]), atomically: true, encoding: .utf8)
        #expect(try ToolRun("repair", "run@2", in: directory).exitCode == 0)
        #expect(try ToolRun("digest", "run@2", "--json", in: directory).output == digest)
        let run = try ToolRun("repair", "run", "--json", in: directory)
        #expect(run.exitCode == 0)
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-repair/1")
        let states = try document.array("checkpoints").map { try $0.asObject().string("state") }
        #expect(states == ["intact", "intact", "rebuilt"])
        #expect(try ToolRun("verify", "run", "--deep", in: directory).exitCode == 0)
        for manifest in manifests { try "{}".write(toFile: directory.path(manifest), atomically: true, encoding: .utf8) }
        try Corruption.flipLastByte(ofRankFileIn: directory, checkpoint: "run/step-00000002")
        #expect(try ToolRun("repair", "run/step-00000002", in: directory).failedInOneLine)
        #expect(try ToolRun("repair", "run", in: directory).exitCode == 1)
        #expect(try ToolRun("verify", "run@3", "--deep", in: directory).exitCode == 0)
    }
}
