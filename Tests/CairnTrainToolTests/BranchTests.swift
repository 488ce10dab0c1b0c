import Cairn
import CairnTesting
import CairnTrain
import Testing

/// Runs that begin where others stood.
@Suite(.serialized) struct BranchTests {
    private static let model = [
        "--text", Repository.fixture("data/kjv.txt"), "--layers", "1", "--heads", "2", "--width", "16", "--context",
        "16", "--batch", "4", "--schedule", "constant",
    ]

    @Test func aDecayBranchesOffAndTheDecayedRunGoesOnAtThePeak() throws {
        let folder = try TemporaryDirectory()
        func run(_ words: String...) throws -> Int32 { try Child(words).wait() }
        func train(_ name: String, steps: Int) throws {
            let words = ["run", "--resume", "--out", folder.path + "/" + name, "--steps", "\(steps)"] + Self.model
            #expect(try Child(words).wait() == 0)
        }
        let (trunk, decayed, on) = (folder.path + "/trunk", folder.path + "/decayed", folder.path + "/on")
        try train("trunk", steps: 20)
        #expect(try run("branch", trunk + "@20", decayed, "--decay-steps", "10", "--floor", "0") == 0)
        #expect(try run("branch", trunk, decayed, "--constant") != 0)
        let first = try CheckpointStore(path: decayed).load(step: 20)
        let parent = try CheckpointStore(path: trunk).load(step: 20)
        #expect(first.tensors.map(\.name) == parent.tensors.map(\.name))
        for (name, tensor) in parent.tensors { #expect(try first.tensor(name) == tensor) }
        for named in parent.values where named.name != "schedule" { #expect(try first.value(named.name) == named.value) }
        try train("decayed", steps: 30)
        let schedule = try LearningRateSchedule(CheckpointStore(path: decayed).load(step: 30).value("schedule"))
        #expect(schedule.rate(step: 19) == 1e-3 && schedule.rate(step: 25) == 0.5e-3 && schedule.rate(step: 30) == 0)
        #expect(try run("branch", decayed + "@30", on, "--constant") == 0)
        try train("on", steps: 35)
        let going = try LearningRateSchedule(CheckpointStore(path: on).load(step: 35).value("schedule"))
        #expect(going.rate(step: 34) == 1e-3)
        let lineage = try CheckpointStore(path: on).open(step: 30).manifest.lineage
        #expect(lineage?.operation == "branching")
        #expect(lineage?.parents.first?.saveID == (try CheckpointStore(path: decayed).open(step: 30).manifest.saveID))
    }

    @Test func averagesAreEvaluatedOnTheFlyAndKeptWithTheCheckpoint() throws {
        let folder = try TemporaryDirectory()
        let words = [
            "run", "--out", folder.path, "--steps", "30", "--ema", "0.9", "--evaluate-every", "10", "--lawa", "3",
            "--lawa-every", "5",
        ]
        #expect(try Child(words + Self.model).wait() == 0)
        let manifest = try CheckpointStore(path: folder.path).open(step: 30).manifest
        for name in ["loss", "validation", "validation_average", "validation_latest"] {
            #expect(manifest.metrics[name].map { $0 > 1 && $0 < 6 } == true, "\(name)")
        }
        #expect(manifest.metrics["validation"] != manifest.metrics["validation_average"])
    }
}
