import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Foundation
import Testing

@Suite struct Inspection {
    @Test func everyWayToNameACheckpointLeadsToIt() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4, 8])
        let places = [
            ("run", 8), ("run@latest", 8), ("run@4", 4), ("run/step-00000004", 4),
            ("run/step-00000004/manifest.json", 4),
        ]
        for (place, step) in places {
            let document = try ToolRun("inspect", place, "--json", in: directory).document()
            #expect(try document.integer("step") == step, "\(place)")
        }
        let note = try ToolRun("inspect", "run", in: directory).errors
        #expect(note.contains("step 8, the latest"))
    }

    @Test func theDocumentTellsTensorsTiesValuesAndTotals() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        let document = try ToolRun("inspect", "run@4", "--json", in: directory).document()
        #expect(try document.string("schema") == "cairn-inspect/1")
        #expect(try document.string("format") == "cairn")
        #expect(try document.object("metrics").double("loss") == 0.2)
        let totals = try document.object("totals")
        #expect(try totals.integer("tensors") == 4)
        #expect(try totals.integer("stored_tensors") == 3)
        #expect(try totals.integer("bytes") == 6 * 4 + 4 * 4 + 2 * 8)
        let first = try document.array("tensors")[0].asObject()
        #expect(try first.string("fqn") == "head.weight")
        #expect(try first.string("tied_to") == "layer.weight")
        let names = try document.array("values").map { try $0.asObject().string("name") }
        #expect(names == ["schedule.rate", "step"])
    }

    @Test func statisticsLeaveOutWhatIsNotFinite() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [0])
        let run = try ToolRun("inspect", "run", "--tensor", "layer.*", "--stats", "--json", in: directory)
        let tensors = try run.document().array("tensors").map { try $0.asObject() }
        #expect(try tensors.map { try $0.string("fqn") } == ["layer.bias", "layer.weight"])
        let bias = try tensors[0].object("stats")
        #expect(try bias.string("min") == "-inf")
        #expect(try bias.double("max") == 0.5)
        #expect(try bias.double("mean") == 0.25)
        #expect(try bias.double("std") == 0.25)
        #expect(try bias.integer("nan") == 1)
        #expect(try bias.integer("inf") == 1)
        #expect(try bias.integer("zero") == 1)
        let weight = try tensors[1].object("stats")
        #expect(try weight.double("mean") == 3.5)
        #expect(abs(try weight.double("std") - (35.0 / 12).squareRoot()) < 1e-12)
    }

    /// Squares of these are not doubles, or zero.
    @Test(
        arguments: [([3e300, -1e300], 1e300, 2e300), ([3e-300, -1e-300], 1e-300, 2e-300), ([1.7e308, -1.7e308], 0, 1.7e308)]
            as [([Double], Double, Double)])
    func statisticsOfTheLargestAndSmallestNumbers(values: [Double], mean: Double, deviation: Double) throws {
        let directory = try TemporaryDirectory()
        var state = TrainingState()
        state.set(Tensor(values), for: "x")
        try CheckpointStore(path: directory.path("run")).save(state, step: 1)
        let run = try ToolRun("inspect", "run@1", "--tensor", "x", "--stats", "--json", in: directory)
        let stats = try run.document().array("tensors")[0].asObject().object("stats")
        let found = (mean: try stats.double("mean"), deviation: try stats.double("std"))
        #expect(abs(found.mean - mean) <= 1e-14 * abs(mean))
        #expect(abs(found.deviation / deviation - 1) < 1e-14)
    }

    @Test func controlCharactersInNamesNeverReachTheTerminal() throws {
        let directory = try TemporaryDirectory()
        var state = TrainingState()
        state.set(Tensor([1] as [Float]), for: "evil\u{1B}[31m\nname\u{202E}")
        try CheckpointStore(path: directory.path("run")).save(state, step: 1)
        let run = try ToolRun("inspect", "run@1", in: directory)
        #expect(run.output.contains("evil\\u{1b}[31m\\nname\\u{202e}"))
        #expect(!run.output.unicodeScalars.contains("\u{1B}"))
    }

    @Test func whatIsNoCheckpointIsRefusedInOneLine() throws {
        let directory = try TemporaryDirectory()
        try "hello".write(toFile: directory.path("text"), atomically: true, encoding: .utf8)
        try SampleStates.run(at: directory.path("run"), steps: [4])
        for place in ["nothing", "text", ".", "run@5", "run@last", "run/step-00000004@4"] {
            let run = try ToolRun("inspect", place, in: directory)
            #expect(run.failedInOneLine, "\(place): \(run.exitCode) \(run.errors)")
        }
    }

    @Test func theDigestIsTheSameInEveryFormat() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        _ = try ToolRun("convert", "run@4", "single.safetensors", "--to", "safetensors", in: directory)
        _ = try ToolRun(
            "convert", "run@4", "many", "--to", "safetensors-sharded", "--max-shard-size", "20", in: directory)
        let original = try ToolRun("digest", "run@4", "--json", in: directory).document()
        #expect(try original.string("schema") == "cairn-digest/1")
        #expect(try original.array("tensors").count == 4)
        for copy in ["single.safetensors", "many"] {
            let document = try ToolRun("digest", copy, "--json", in: directory).document()
            #expect(document["tensors"] == original["tensors"], "\(copy)")
            #expect(document["objects"] == original["objects"], "\(copy)")
        }
        #expect(try directory.names("many").count > 2)
    }
}
