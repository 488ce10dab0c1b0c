import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Values of single ranks in what the tool says, and which checkpoint of a run it takes.
@Suite struct StoreStateTests {
    /// Saves a step by two ranks, each with a generator of its own.
    private func save(_ store: CheckpointStore, step: Int, seeds: [Int]) throws {
        let session = try store.beginSave(step: step, rankCount: seeds.count)
        try session.setGlobal(values: [NamedValue(name: "step", value: Value(7))])
        for (rank, seed) in seeds.enumerated() {
            let part = try Tensor([Float](repeating: Float(rank), count: 4), shape: [1, 4])
            let region = try Region(offsets: [rank, 0], shape: [1, 4])
            try session.write(
                rank: rank,
                fragments: [try TensorFragment(name: "w", globalShape: [seeds.count, 4], region: region, tensor: part)],
                values: [NamedValue(name: "generator", value: ["seed": Value(seed)])])
        }
        try session.commit()
    }

    @Test func checkpointsWhoseGeneratorsDifferAreNotEqual() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        try save(store, step: 1, seeds: [10, 11])
        try save(store, step: 2, seeds: [10, 12])
        try save(store, step: 3, seeds: [10, 11])
        let diff = try ToolRun("diff", "run@1", "run@2", "--json", in: directory)
        #expect(diff.exitCode == 1)
        let differing = try diff.document().array("differing_values").map { try $0.asObject() }
        #expect(try differing.map { try $0.string("name") } == ["rank 1: generator"])
        #expect(try ToolRun("diff", "run@1", "run@2", "--exclude", "generator", in: directory).exitCode == 0)
        #expect(try ToolRun("diff", "run@1", "run@3", in: directory).exitCode == 0)
        let digests = try (1...3).map { try ToolRun("digest", "run@\($0)", "--json", in: directory).output }
        #expect(digests[0] != digests[1] && digests[0] == digests[2])
        let objects = try ToolRun("digest", "run@2", "--json", in: directory).document().array("objects").map {
            try $0.asObject()
        }
        let paths = try objects.map { try $0.array("path").compactMap { try? $0.asString() } }
        #expect(paths == [["step"], ["rank 0", "generator", "seed"], ["rank 1", "generator", "seed"]])
        let inspected = try ToolRun("inspect", "run@2", "--json", in: directory).document()
        let ranks = try inspected.array("rank_values").map { try $0.asObject() }
        #expect(try ranks.map { try $0.integer("rank") } == [0, 1])
        #expect(try ToolRun("inspect", "run@2", in: directory).output.contains("{seed: 12}"))
    }

    @Test func aConversionAReshardAndAnAverageNameWhatTheyLose() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        for step in 1...2 { try save(store, step: step, seeds: [10, 11]) }
        let commands = [
            ["convert", "run@1", "a.safetensors", "--to", "safetensors"], ["convert", "run@1", "a.pt", "--to", "torch"],
            ["convert", "run@1", "one", "--to", "cairn"], ["average", "run", "-o", "b.safetensors"],
            ["reshard", "run@1", "three", "--mesh", "dp=3", "--layout", "replicated"],
        ]
        for command in commands {
            let run = try ToolRun(command + ["--json"], in: directory)
            #expect(run.exitCode == 0, "\(command): \(run.errors)")
            guard run.exitCode == 0 else { continue }
            let notes = try run.document().array("notes").map { try $0.asString() }
            let isNamed = notes.contains { $0.contains("2 ranks") && $0.contains("\"generator\"") }
            #expect(isNamed && run.errors.contains("\"generator\""), "\(command): \(notes)")
        }
        let same = try ToolRun("reshard", "run@1", "two", "--mesh", "dp=2", "--layout", "fsdp", "--json", in: directory)
        #expect(try same.document().array("notes").isEmpty)
        #expect(try ToolRun("inspect", "two", in: directory).output.contains("rank dp=1"))
    }

    @Test func aRankFileOpensByItselfAndSaysWhatItIs() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        try save(store, step: 1, seeds: [10, 11])
        let file = "run/step-00000001/" + (try store.open(step: 1).manifest.files[1].name)
        let inspected = try ToolRun("inspect", file, in: directory)
        #expect(inspected.exitCode == 0 && inspected.output.contains("{seed: 11}"))
        #expect(inspected.errors.contains("rank 1 of 2") && inspected.errors.contains("parts of larger ones"))
        #expect(try ToolRun("verify", file, "--deep", in: directory).exitCode == 0)
    }

    @Test func aStepThatLostAFileIsNotCommittedAndTheNewestWholeOneIsTaken() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        for step in 1...3 { try save(store, step: step, seeds: [step, step]) }
        let lost = "step-00000003/" + (try store.open(step: 3).manifest.files[1].name)
        let bytes = try store.storage.readAll(lost)
        try store.storage.publish(Array(bytes.dropLast()), as: lost)
        for isLost in [false, true] {
            if isLost { try store.storage.delete([lost]) }
            let rows = try ToolRun("ls", "run", "--json", in: directory).document().array("checkpoints")
                .map { try $0.asObject().string("state") }
            #expect(rows == ["committed", "committed", "damaged"])
            #expect(try ToolRun("ls", "run", in: directory).output.contains("damaged: a rank file"))
            for text in ["run", "run@latest"] {
                let latest = try ToolRun("inspect", text, "--json", in: directory)
                #expect(try latest.document().integer("step") == 2)
                #expect(latest.errors.contains("run@3 is skipped"))
            }
            let output = isLost ? "b.safetensors" : "a.safetensors"
            let average = try ToolRun("average", "run", "--last", "2", "-o", output, "--json", in: directory)
            let parents = try average.document().object("lineage").array("parents").map { try $0.asObject().integer("step") }
            #expect(parents.sorted() == [1, 2] && average.errors.contains("run@3 is skipped"))
            #expect(try ToolRun("verify", "run@latest", in: directory).exitCode == 1, "whether it is whole is the question")
        }
        let pruned = try ToolRun("prune", "run", "--keep-last", "1", "--json", in: directory).document()
        #expect(try pruned.array("kept").map { try $0.asInteger() } == [2])
        #expect(try store.steps() == [2, 3])
        // Saved over by hand: the old one is kept, and that is said.
        let over = try ToolRun("convert", "run@2", "run", "--to", "cairn", "--step", "3", "--json", in: directory)
        #expect(over.exitCode == 0 && over.errors.contains("set aside"), "\(over.errors)")
        #expect(try ToolRun("ls", "run", in: directory).output.contains("committed, 1 set aside"))
        for step in 2...3 {
            let manifest = "step-0000000\(step)/manifest.json"
            try store.storage.publish([1], as: manifest)
        }
        let none = try ToolRun("inspect", "run", in: directory)
        #expect(none.exitCode == 2 && none.errors.contains("none of them can be used"))
    }

    @Test func aRenameWithAStrayStarIsRefused() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        let run = try ToolRun(
            "convert", "run@1", "a.safetensors", "--to", "safetensors", "--rename", "layer.*=block.*", in: directory)
        #expect(run.exitCode != 0 && run.errors.contains("$1"))
        let literal = try ToolRun(
            "convert", "run@1", "a.safetensors", "--to", "safetensors", "--rename", #"layer.*=block.\*$1"#, in: directory)
        #expect(literal.exitCode == 0, "\(literal.errors)")
        #expect(try SafeTensorsReader(path: directory.path("a.safetensors")).tensors.contains { $0.name == "block.*weight" })
    }
}
