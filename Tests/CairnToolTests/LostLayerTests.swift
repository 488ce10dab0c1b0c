import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// `cairn repair --lost`, and what the other commands say of its results.
@Suite struct LostLayers {
    /// Five layers with moments; `shift` is added to every weight.
    private static func state(shift: Float = 0) throws -> TrainingState {
        var state = TrainingState()
        for layer in 0..<5 {
            let numbers = (0..<12).map { Float(layer * 12 + $0) + shift }
            state.set(try Tensor(numbers, [3, 4]), for: "model.layers.\(layer).w")
            state.set(try Tensor([Float](repeating: 1, count: 12), [3, 4]), for: "optimizer.exp_avg.model.layers.\(layer).w")
            state.set(
                try Tensor([Float](repeating: Float(layer + 1), count: 12), [3, 4]),
                for: "optimizer.exp_avg_sq.model.layers.\(layer).w")
        }
        state.set(try Tensor([1, 2, 3] as [Float], [3]), for: "model.head")
        state.set(.integer(5), for: "step")
        return state
    }

    private static func run(at path: String) throws {
        let store = CheckpointStore(path: path)
        try store.save(state(), step: 5)
        try store.save(state(shift: 0.5), step: 6)
    }

    /// Layers 1 and 3 stand around 2: the mean of their first elements is 24, as layer 2 had it.
    @Test func aRunIsMendedAndEveryCommandNamesWhatIsApproximate() throws {
        let directory = try TemporaryDirectory()
        try Self.run(at: directory.path("run"))
        let run = try ToolRun(
            "repair", "run@5", "--lost", "model.layers.{2..2}.*", "--from", "neighbours", "--weights", "equal", "-o", "mended",
            "--to",
            "cairn", "--json", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-repair/1")
        #expect(try document.array("approximate") == [.string("model.layers.2.w")])
        let reader = try CheckpointStore(path: directory.path("mended")).open(step: 5)
        let source = try CheckpointStore(path: directory.path("run")).open(step: 5)
        #expect(try reader.tensor("model.layers.2.w").elements(as: Float.self) == (0..<12).map { Float(24 + $0) })
        #expect(try reader.tensor("optimizer.exp_avg.model.layers.2.w") == Tensor(zeros: .f32, [3, 4]))
        for tensor in source.tensors where !tensor.name.contains("layers.2.") {
            #expect(try reader.tensor(tensor.name) == source.tensor(tensor.name), "\(tensor.name)")
        }
        #expect(reader.manifest.lineage?.operation == "recovery")
        #expect(reader.manifest.lineage?.parents.first?.saveID == source.manifest.saveID)
        let inspect = try ToolRun("inspect", "mended@5", in: directory)
        #expect(inspect.output.contains("1 tensor made up after a loss: \"model.layers.2.w\""), "\(inspect.output)")
        let described = try ToolRun("inspect", "mended@5", "--json", in: directory).document().array("approximate")
        #expect(try described.first?.asObject().string("fqn") == "model.layers.2.w")
        // A conversion goes on saying so, by the new names.
        for output in ["converted.safetensors", "converted"] {
            let format = output == "converted" ? "cairn" : "safetensors"
            let convert = try ToolRun(
                "convert", "mended@5", output, "--to", format, "--rename", "model.*=$1", in: directory)
            #expect(convert.exitCode == 0 && convert.errors.contains("layers.2.w"), "\(convert.errors)")
            let names = try ToolRun("inspect", output, "--json", in: directory).document().array("approximate")
            #expect(try names.first?.asObject().string("fqn") == "layers.2.w" && names.count == 1)
        }
        let verify = try ToolRun("verify", "mended", "--deep", in: directory)
        #expect(verify.exitCode == 0 && verify.errors.contains("model.layers.2.w"), "\(verify.errors)")
        let lineage = try ToolRun("lineage", "run", "mended", in: directory)
        #expect(lineage.output.contains("approximate: \"model.layers.2.w\""), "\(lineage.output)")
        let plain = try ToolRun("verify", "run", in: directory)
        #expect(!plain.errors.contains("made up"))
    }

    @Test func otherFormatsAreMendedToo() throws {
        let directory = try TemporaryDirectory()
        try Self.run(at: directory.path("run"))
        for (format, source) in [
            ("torch", "a.pt"), ("safetensors", "a.safetensors"), ("npz", "a.npz"), ("hdf5", "a.h5"), ("dcp", "dcp"),
        ] {
            #expect(try ToolRun("convert", "run@5", source, "--to", format, in: directory).exitCode == 0)
            let result = "mended-\(format).safetensors"
            let run = try ToolRun(
                "repair", source, "--lost", "model.layers.2.*", "--from", "neighbours", "--weights", "equal", "-o", result,
                in: directory)
            #expect(run.exitCode == 0, "\(format): \(run.errors)")
            let reader = try SafeTensorsReader(path: directory.path(result))
            let found = try reader.tensor("model.layers.2.w").elements(as: Float.self)
            #expect(found == (0..<12).map { Float(24 + $0) }, "\(format)")
            let verify = try ToolRun("verify", result, in: directory)
            #expect(verify.errors.contains("1 tensor made up"), "\(verify.errors)")
        }
        // Everything goes out as it came in, in the same format.
        let same = try ToolRun(
            "repair", "dcp", "--lost", "model.layers.2.*", "--from", "copy:4", "-o", "dcp2", "--to", "dcp", in: directory)
        #expect(same.exitCode == 0, "\(same.errors)")
        let diff = try ToolRun("diff", "dcp", "dcp2", in: directory)
        #expect(diff.exitCode == 1 && diff.output.contains("model.layers.2.w") && !diff.output.contains("model.layers.3.w"))
    }

    @Test func whatIsInAMissingFileIsFoundOut() throws {
        let directory = try TemporaryDirectory()
        try Self.run(at: directory.path("run"))
        let files = FileManager.default
        let sharded = try ToolRun(
            "convert", "run@5", "hf", "--to", "safetensors-sharded", "--max-shard-size", "48", "--include", "model.*",
            in: directory)
        #expect(sharded.exitCode == 0)
        let shard = try #require(
            try directory.names("hf").first {
                $0.hasSuffix(".safetensors")
                    && (try? SafeTensorsReader(path: directory.path("hf/" + $0)).tensors.map(\.name)) == ["model.layers.2.w"]
            })
        try files.removeItem(atPath: directory.path("hf/" + shard))
        #expect(try ToolRun("inspect", "hf", in: directory).exitCode == 2, "other commands refuse it as before")
        let run = try ToolRun(
            "repair", "hf", "--lost", "auto", "--from", "neighbours", "--weights", "equal", "-o", "hf.safetensors", in: directory)
        #expect(run.exitCode == 0 && run.errors.contains("model.layers.2.w"), "\(run.errors)")
        let mended = try SafeTensorsReader(path: directory.path("hf.safetensors"))
        #expect(try mended.tensor("model.layers.2.w").elements(as: Float.self)[0] == 24)

        #expect(try ToolRun("convert", "run@5", "dcp", "--to", "dcp", "--shards", "3", in: directory).exitCode == 0)
        let data = try directory.names("dcp").filter { $0.hasSuffix(".distcp") }
        try files.removeItem(atPath: directory.path("dcp/" + data[1]))
        #expect(try ToolRun("inspect", "dcp", in: directory).exitCode == 2)
        let older = try ToolRun(
            "repair", "dcp", "--lost", "auto", "--from", "older:run@6", "-o", "dcp2", "--to", "dcp", in: directory)
        #expect(older.exitCode == 0 && older.errors.contains("1 of 3 pieces"), "\(older.errors)")
        #expect(try ToolRun("diff", "run@6", "dcp2", "--include", "model.*", in: directory).exitCode != 2)

        // A changed byte is a loss too.
        let step = try directory.names("run").first { $0.hasSuffix("5") } ?? ""
        let rank = try directory.names("run/" + step).first { $0.hasPrefix("rank-") } ?? ""
        let path = directory.path("run/\(step)/\(rank)")
        var bytes = try #require(files.contents(atPath: path))
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: URL(fileURLWithPath: path))
        let damaged = try ToolRun(
            "repair", "run@5", "--lost", "auto", "--from", "older:6", "-o", "mended", "--to", "cairn", in: directory)
        #expect(damaged.exitCode == 0, "\(damaged.errors)")
        #expect(try ToolRun("verify", "mended", "--deep", in: directory).exitCode == 0)
    }

    @Test func everyRefusalIsOneLine() throws {
        let directory = try TemporaryDirectory()
        try Self.run(at: directory.path("run"))
        let refused: [([String], String)] = [
            (["--lost", "model.head", "--from", "neighbours"], "older:STEP"),
            (["--lost", "x.*", "--from", "neighbours"], "fits no tensor"),
            (["--lost", "auto", "--from", "neighbours"], "nothing of the checkpoint is lost"),
            (["--lost", "model.layers.*", "--from", "init"], "all layers"),
            (["--lost", "model.layers.2.*", "--from", "copy:7"], "no such layer"),
            (["--lost", "model.layers.2.*", "--from", "older:5"], "very checkpoint"),
            (["--lost", "model.layers.2.*", "--from", "older:7"], "no checkpoint of step 7"),
            (["--lost", "{3..1}", "--from", "neighbours"], "backwards"),
        ]
        for (words, reason) in refused {
            let run = try ToolRun(["repair", "run@5", "-o", "out", "--to", "cairn"] + words, in: directory)
            #expect(run.failedInOneLine && run.errors.contains(reason), "\(words): \(run.errors)")
            #expect(!FileManager.default.fileExists(atPath: directory.path("out")))
        }
        let over = try ToolRun(
            "repair", "run@5", "--lost", "model.layers.2.*", "--from", "neighbours", "-o", "run", "--to", "cairn", in: directory)
        #expect(over.failedInOneLine && over.errors.contains("over or into the source"))
        for words in [
            ["--lost", "a"], ["--lost", "a", "--from", "neighbours"], ["--from", "neighbours"],
            ["--lost", "a", "--from", "odd", "-o", "x.safetensors"],
            ["--lost", "a", "--from", "init", "--weights", "grad", "-o", "x.safetensors"],
            ["--lost", "a", "--from", "neighbours", "--seed", "1", "-o", "x.safetensors"],
            ["--lost", "a", "--from", "neighbours", "--beta2", "1", "-o", "x.safetensors"],
            ["--lost", "auto", "--lost", "a", "--from", "init", "-o", "x.safetensors"],
            ["--lost", "a", "--from", "init", "-o", "x"],
            ["--lost", "a", "--from", "init", "-o", "x.safetensors", "--step", "3"],
        ] {
            #expect(try ToolRun(["repair", "run@5"] + words, in: directory).exitCode == 64, "\(words)")
        }
    }
}
