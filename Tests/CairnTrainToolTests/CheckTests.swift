import Cairn
import CairnCheckpoint
import CairnTesting
import CairnTrain
import Testing

/// Whether a checkpoint computes what it did.
@Suite(.serialized) struct CheckTests {
    private static let text = Repository.fixture("data/kjv.txt")
    private static let model = [
        "--text", text, "--layers", "2", "--heads", "2", "--width", "16", "--context", "16", "--batch", "4",
        "--schedule", "constant", "--fingerprint",
    ]

    @Test func aRunComparesOnResumeOnAnyRanks() throws {
        let folder = try TemporaryDirectory()
        let words = ["run", "--out", folder.path, "--resume"] + Self.model
        #expect(try Child(words + ["--steps", "10"]).wait() == 0)
        #expect(try Child(words + ["--steps", "14", "--mesh", "dp=2,tp=2", "--zero"]).wait() == 0)
        #expect(try Child(words + ["--steps", "18"]).wait() == 0)
        #expect(try Child(["check", folder.path + "@14", "--text", Self.text]).wait() == 0)
        // A model that computes something else is not trained on.
        let store = CheckpointStore(path: folder.path)
        var state = try store.load(step: 18)
        let name = "model.layers.0.mlp.up.weight"
        let weight = try state.tensor(name)
        state.set(try Tensor(weight.elements(as: Float.self).map { -$0 }, weight.shape), for: name)
        try store.save(state, step: 19)
        #expect(try Child(["check", folder.path, "--text", Self.text]).wait() == 1)
        #expect(try Child(["check", folder.path, "--against", folder.path + "@18", "--text", Self.text]).wait() == 1)
        #expect(try Child(words + ["--steps", "22"]).wait() == 1)
    }

    @Test func anUpcycledModelAndAFileComputeTheSame() throws {
        let folder = try TemporaryDirectory()
        let (dense, sparse) = (folder.path + "/dense", folder.path + "/sparse")
        let file = folder.path + "/model.safetensors"
        #expect(try Child(["run", "--out", dense, "--steps", "10"] + Self.model).wait() == 0)
        #expect(try Child(["upcycle", dense, sparse, "--experts", "4"]).wait() == 0)
        #expect(try Child(["check", sparse, "--text", Self.text]).wait() == 0)
        #expect(try Child(["check", sparse, "--against", dense, "--text", Self.text]).wait() == 0)
        let writer = try SafeTensorsWriter(path: file)
        _ = try copyCheckpoint(from: CheckpointStore(path: dense).open(step: 10), to: writer)
        #expect(try Child(["check", file, "--text", Self.text]).wait() == 0)
        #expect(try Child(["check", folder.path + "/nothing", "--text", Self.text]).wait() == 1)
    }
}
