import Cairn
import CairnTesting
import Testing

/// Runs of `cairn-train` on many ranks.
@Suite(.serialized) struct ParallelRunTests {
    private static let model = [
        "run", "--text", Repository.fixture("data/kjv.txt"), "--layers", "2", "--heads", "2",
        "--width", "16", "--context", "16", "--batch", "5", "--save-every", "10", "--schedule", "constant",
    ]

    /// Each part of the run ends in a checkpoint from which the next one continues, on other ranks.
    @Test(arguments: ["adamw", "muon"], [nil, 3])
    func aRunGoesOnFromTheCheckpointOfAnyMesh(optimizer: String, experts: Int?) throws {
        let folder = try TemporaryDirectory()
        func run(_ name: String, _ parts: [[String]]) throws {
            for (index, part) in parts.enumerated() {
                var arguments = Self.model + ["--optimizer", optimizer, "--out", "\(folder.path)/\(name)"]
                arguments += ["--steps", "\(10 * (index + 1))"] + part
                if let experts { arguments += ["--experts", "\(experts)"] }
                if index > 0 { arguments.append("--resume") }
                #expect(try Child(arguments).wait() == 0, "\(name), part \(index)")
            }
        }
        try run("one", [[], [], [], [], []])
        try run(
            "many",
            [
                [], ["--mesh", experts == nil ? "tp=2,dp=2" : "dp=2,ep=2", "--zero"],
                ["--mesh", "pp=2,tp=2", "--micro-batches", "2"],
                ["--ranks", "3", "--zero"], [],
            ])
        let one = try RunLosses(folder: folder.path + "/one")
        let many = try RunLosses(folder: folder.path + "/many")
        #expect(one.values.count == 50)
        #expect(many.largestDeviation(from: one).map { $0 < 1e-5 } == true)
        let state = try CheckpointStore(path: folder.path + "/one").load(step: 50)
        #expect(try CheckpointStore(path: folder.path + "/many").load(step: 50).names == state.names)
    }

    @Test func whatDoesNotFitTogetherIsRefused() throws {
        let folder = try TemporaryDirectory()
        for arguments in [["--ranks", "3", "--mesh", "tp=2"], ["--zero"], ["--mesh", "tp=2", "--model", "mlp"]] {
            #expect(try Child(Self.model + ["--out", folder.path + "/run"] + arguments).wait() == 64)
        }
    }

    /// The schedule of the whole run, in two pieces.
    @Test func aRunStoppedOnTheWayGoesOnWithTheSameBits() throws {
        let folder = try TemporaryDirectory()
        let arguments = Self.model + ["--schedule", "cosine", "--mesh", "tp=2,dp=2", "--zero", "--steps", "30", "--out"]
        #expect(try Child(arguments + [folder.path + "/whole"]).wait() == 0)
        #expect(try Child(arguments + [folder.path + "/cut", "--stop-after", "15"]).wait() == 0)
        #expect(try CheckpointStore(path: folder.path + "/cut").latest() == 15)
        #expect(try Child(arguments + [folder.path + "/cut", "--resume"]).wait() == 0)
        let whole = try RunLosses(folder: folder.path + "/whole")
        #expect(try RunLosses(folder: folder.path + "/cut").values == whole.values)
    }

    /// What one rank alone reads is damaged: all of them go back together.
    @Test func aResumePassesOverADamagedCheckpoint() throws {
        let folder = try TemporaryDirectory()
        let whole = folder.path + "/whole"
        let arguments = Self.model + ["--mesh", "tp=2,dp=2", "--zero", "--steps", "30", "--keep-last", "9", "--out"]
        #expect(try Child(arguments + [whole]).wait() == 0)
        let storage = LocalStorage(root: whole)
        let keys = try storage.list("step-00000030/").map(\.key)
        let key = try #require(keys.first { $0.contains("rank-00002") })
        var bytes = try storage.readAll(key, limit: 1 << 24)
        bytes[bytes.count - 1] ^= 1
        try storage.publish(bytes, as: key)
        let expected = try RunLosses(folder: whole)
        let resumed = folder.path + "/resumed"
        for mesh in ["tp=2,dp=2", "pp=2"] {
            let more = ["--resume-from", whole, "--mesh", mesh] + (mesh == "pp=2" ? [] : ["--zero"])
            let child = Self.model + ["--steps", "30", "--out", resumed + mesh] + more
            #expect(try Child(child).wait() == 0)
            let losses = try RunLosses(folder: resumed + mesh).values
            // From step 20 on.
            #expect(losses.count == 10)
            for (loss, other) in zip(losses, expected.values.dropFirst(20)) { #expect(abs(loss - other) < 1e-5) }
        }
    }
}
