import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnTesting
import Foundation
import Testing

@Suite struct ListTimings {
    @Test func timingsAreShownWhereTheyWereRecorded() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        let pipeline = SnapshotPipeline(store)
        #expect(pipeline.snapshot(try SampleStates.state(), step: 1).wait()?.isCommitted == true)
        try store.save(SampleStates.state(), step: 2)
        #expect(pipeline.snapshot(try SampleStates.state(), step: 3).wait()?.isCommitted == true)
        try "{}".write(toFile: directory.path("run/step-00000003/timeline.json"), atomically: true, encoding: .utf8)

        let document = try ToolRun("ls", "run", "--timings", "--json", in: directory).document()
        let rows = try document.array("checkpoints").map { try $0.asObject() }
        let ranks = try rows[0].array("timings").map { try $0.asObject() }
        #expect(ranks.count == 1)
        #expect(try ranks[0].integer("rank") == 0 && ranks[0].integer("step") == 1)
        #expect(try ranks[0].double("total") > 0 && ranks[0].integer("bytes") > 0)
        #expect(rows[1]["timings"] == .null && rows[2]["timings"] == .null)
        #expect(rows[1]["timings_error"] == nil && rows[2]["timings_error"] != nil)
        let plain = try ToolRun("ls", "run", "--json", in: directory).document()
        #expect(try plain.array("checkpoints").allSatisfy { try $0.asObject()["timings"] == nil })

        let table = try ToolRun("ls", "run", "--timings", in: directory)
        #expect(table.exitCode == 0)
        let lines = table.output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        #expect(lines.count == 4 && lines[0].prefix(3) == ["STEP", "RANK", "RETAIN"])
        #expect(lines[1].prefix(2) == ["1", "0"])
        #expect(lines[1].contains("ms") || lines[1].contains("us"))
        #expect(lines[2] == ["2"] + [String](repeating: "-", count: lines[0].count - 1))
        #expect(table.errors.contains("timeline.json"))
    }

    @Test func aQuarantineIsShownAndItsCheckpointNotChosen() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 3])
        let store = CheckpointStore(path: directory.path("run"))
        let saveID = try store.open(step: 3).manifest.saveID
        try store.quarantine(step: 3, saveID: saveID, because: CairnError(.corrupted, "chunk 4 is bad"))
        let document = try ToolRun("ls", "run", "--json", in: directory).document()
        let row = try #require(try document.array("checkpoints").last).asObject()
        #expect(try row.string("state") == "quarantined" && row.string("error") == "chunk 4 is bad")
        #expect(try row.object("quarantined").string("save_id") == "\(saveID)")
        #expect(try ToolRun("ls", "run", in: directory).output.contains("quarantined: chunk 4 is bad"))
        let pruned = try ToolRun("prune", "run", "--keep-last", "1", "--json", in: directory).document()
        #expect(try pruned.array("kept") == [.integer(2)] && pruned.array("deleted") == [.integer(1)])
        #expect(try directory.names("run") == ["step-00000002", "step-00000003"])
    }
}
