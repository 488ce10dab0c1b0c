import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// The tool on runs whose checkpoints refer to files of earlier ones, and on runs with parts.
@Suite struct ReferenceTool {
    /// A frozen tensor of 20,000 numbers, and one that changes.
    private static func state(_ step: Int) -> TrainingState {
        var state = TrainingState()
        state.set(Tensor((0..<20_000).map { Float($0) }), for: "frozen")
        state.set(Tensor([Float](repeating: Float(step), count: 10)), for: "adapter")
        state.set(.integer(Int64(step)), for: "step")
        return state
    }

    private static func run(_ directory: TemporaryDirectory, steps: ClosedRange<Int> = 1...3) throws -> CheckpointStore {
        let store = CheckpointStore(path: directory.path("run"))
        var options = SaveOptions()
        options.reusesUnchanged = true
        for step in steps { try store.save(state(step), step: step, options: options) }
        return store
    }

    @Test func aCheckpointSaysWhatItRefersToAndIsPacked() throws {
        let directory = try TemporaryDirectory()
        let store = try Self.run(directory)
        let text = try ToolRun("inspect", "run@3", in: directory)
        #expect(text.output.contains("refers to") && text.output.contains("SINCE"), "\(text.output)")
        let inspected = try ToolRun("inspect", "run@3", "--json", in: directory).document()
        let earlier = try inspected.array("earlier_files").map { try $0.asObject() }
        #expect(try earlier.map { try $0.integer("step") } == [1])
        let digest = try ToolRun("digest", "run@3", in: directory).output

        // What the others need stays when its own checkpoint goes.
        #expect(try ToolRun("prune", "run", "--keep-last", "1", in: directory).exitCode == 0)
        let listed = try ToolRun("ls", "run", "--json", in: directory).document().array("checkpoints").map { try $0.asObject() }
        #expect(try listed.map { try $0.string("state") } == ["referenced", "committed"])
        #expect(try ToolRun("verify", "run@3", "--deep", in: directory).exitCode == 0)
        #expect(try ToolRun("digest", "run@3", in: directory).output == digest)

        let refused = try ToolRun("protect", "run@3", "--parity", "1", in: directory)
        #expect(refused.failedInOneLine && refused.errors.contains("cairn pack"), "\(refused.errors)")

        let packed = try ToolRun("pack", "run@3", "--json", in: directory)
        #expect(packed.exitCode == 0, "\(packed.errors)")
        let document = try packed.document()
        #expect(try document.string("schema") == "cairn-pack/1" && document.integer("referred_files") == 1)
        #expect(try document.integer("bytes") > 80_000 && document.integer("bytes_before") < 20_000)
        #expect(try store.open(step: 3).manifest.earlier.isEmpty)
        #expect(try ToolRun("digest", "run@3", in: directory).output == digest)
        let left = try ToolRun("ls", "run", "--json", in: directory).document().array("checkpoints")
        #expect(left.count == 1)
        let again = try ToolRun("pack", "run", in: directory)
        #expect(again.exitCode == 0 && again.output.contains("self-contained already"), "\(again.output)")
        #expect(try ToolRun("protect", "run@3", "--parity", "1", in: directory).exitCode == 0)
    }

    @Test func aLostFileThatIsReferredToIsNamed() throws {
        let directory = try TemporaryDirectory()
        let store = try Self.run(directory)
        let file = try #require(try store.open(step: 1).manifest.files.first)
        try FileManager.default.removeItem(atPath: directory.path("run/step-00000001/\(file.name)"))
        let verified = try ToolRun("verify", "run@3", in: directory)
        #expect(verified.exitCode == 1, "\(verified.output)")
        #expect((verified.output + verified.errors).contains("step-00000001/\(file.name)"), "\(verified.output)")
        let listed = try ToolRun("ls", "run", "--json", in: directory).document().array("checkpoints").map { try $0.asObject() }
        #expect(try listed.map { try $0.string("state") } == ["damaged", "damaged", "damaged"])
        #expect(try ToolRun("pack", "run@3", in: directory).failedInOneLine)
    }

    @Test func aConvertedCopyRefersToNothing() throws {
        let directory = try TemporaryDirectory()
        _ = try Self.run(directory)
        for (output, format) in [("copy", "cairn"), ("copy.safetensors", "safetensors")] {
            let run = try ToolRun("convert", "run@3", output, "--to", format, in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
        }
        try FileManager.default.removeItem(atPath: directory.path("run"))
        #expect(try CheckpointStore(path: directory.path("copy")).load(step: 3) == Self.state(3))
        #expect(try ToolRun("verify", "copy.safetensors", in: directory).exitCode == 0)
    }

    @Test func theNewestOfEachPartIsGraftedOntoTheWhole() throws {
        let directory = try TemporaryDirectory()
        let store = CheckpointStore(path: directory.path("run"))
        try store.part("early").save(Self.part("expert.0", 1), step: 3)
        var whole = Self.part("expert.0", 10)
        whole.set(Tensor([Float](repeating: 10, count: 6)), for: "expert.1")
        whole.set(Tensor([Float](repeating: 10, count: 6)), for: "trunk")
        try store.save(whole, step: 10)
        for step in [11, 12] { try store.part("one").save(Self.part("expert.1", step), step: step) }

        let listed = try ToolRun("ls", "run", "--json", in: directory).document()
        let parts = try listed.array("parts").map { try $0.asObject() }
        #expect(try parts.map { try $0.string("name") } == ["early", "one"])
        #expect(try ToolRun("ls", "run", in: directory).errors.contains("parts/one: 2 checkpoints, the newest of step 12"))

        let run = try ToolRun("graft", "run", "--parts", "-o", "made", "--to", "cairn", "--json", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(try run.document().string("schema") == "cairn-graft/1")
        let made = try CheckpointStore(path: directory.path("made")).load(step: 10)
        // The first part was saved before the whole, which has newer bytes of it.
        for (name, value) in [("expert.0", 10), ("expert.1", 12), ("trunk", 10)] {
            #expect(try made.tensor(name).elements(as: Float.self) == [Float](repeating: Float(value), count: 6))
        }
        let inspected = try ToolRun("inspect", "made", in: directory).output
        #expect(inspected.contains("expert.1") && inspected.contains("of step 12"), "\(inspected)")

        #expect(try ToolRun("graft", "run", "-o", "x", "--to", "cairn", in: directory).exitCode == 64)
        #expect(try ToolRun("graft", "run", "--parts", "--take", "run@10:*", "-o", "x", in: directory).exitCode == 64)
        try FileManager.default.createDirectory(atPath: directory.path("empty"), withIntermediateDirectories: true)
        let empty = try ToolRun("graft", "empty", "--parts", "-o", "x", "--to", "cairn", in: directory)
        #expect(empty.failedInOneLine, "\(empty.errors)")
    }

    private static func part(_ name: String, _ value: Int) -> TrainingState {
        var state = TrainingState()
        state.set(Tensor([Float](repeating: Float(value), count: 6)), for: name)
        return state
    }
}
