import Cairn
import CairnTesting
import CairnTrain
import Testing

/// Runs that lose blocks on command.
@Suite(.serialized) struct StageLossTests {
    private static let model = [
        "--text", Repository.fixture("data/kjv.txt"), "--layers", "4", "--heads", "2", "--width", "16", "--context",
        "16", "--batch", "4", "--schedule", "constant", "--steps", "20", "--save-every", "5",
    ]

    private static func run(_ out: String, _ words: [String] = []) throws -> Int32 {
        try Child(["run", "--out", out] + model + words).wait()
    }

    @Test func aLostBlockChangesTheRunFromThereOnAndItsCheckpointsSaySo() throws {
        let folder = try TemporaryDirectory()
        let (plain, lost) = (folder.path + "/plain", folder.path + "/lost")
        #expect(try Self.run(plain) == 0)
        #expect(try Self.run(lost, ["--lose-stage", "1@7", "--lose-stage", "3@12", "--stage-rate", "1.1"]) == 0)
        let stores = [plain, lost].map { CheckpointStore(path: $0) }
        #expect(try stores[0].load(step: 10) != stores[1].load(step: 10))
        let manifest = try stores[1].open(step: 20).manifest
        #expect(manifest.lineage?.details["lost_stages"] == ["1@7", "3@12"])
        guard case .dictionary(let optimizer) = try stores[1].load(step: 20).value("optimizer"),
            case .dictionary(let restarts)? = optimizer["restarts"]
        else {
            Issue.record("the optimizer notes no restarts")
            return
        }
        #expect(restarts["model.layers.1.mlp.up.weight"] == ["step": .integer(7), "rate_factor": .double(1.1)])
        #expect(restarts["model.layers.3.mlp.up.weight"] == ["step": .integer(12), "rate_factor": .double(1.1)])
        // What resumes behind a loss goes on as the run did.
        #expect(try stores[0].load(step: 20) != stores[1].load(step: 20))
    }

    @Test(arguments: ["copy", "init", "older"])
    func everyReplacementGoesOn(kind: String) throws {
        let folder = try TemporaryDirectory()
        #expect(
            try Self.run(folder.path, ["--lose-stage", "2@15", "--replace-stage", kind, "--out-of-order", "--blocking-saves"])
                == 0)
        #expect(try CheckpointStore(path: folder.path).latest() == 20)
    }

    @Test func whatCannotBeLostIsRefused() throws {
        let folder = try TemporaryDirectory()
        for words in [
            ["--lose-stage", "4@7"], ["--lose-stage", "x"], ["--lose-stage", "1@7", "--stage-weights", "odd"],
            ["--lose-stage", "1@7", "--stage-rate", "0"], ["--lose-stage", "1@7", "--ranks", "2"],
            ["--out-of-order", "--ranks", "2"],
            ["--lose-stage", "1@0", "--replace-stage", "older"],
        ] {
            #expect(try Self.run(folder.path, words) != 0, "\(words)")
        }
    }
}
