import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

@Suite struct Merging {
    /// A model of these elements, as a safetensors file.
    private static func write(_ elements: [Float], to path: String) throws {
        var state = TrainingState()
        state.set(try Tensor(elements, [elements.count / 2, 2]), for: "layer.weight")
        state.set(Tensor([7] as [Int64]), for: "counter")
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(state, step: 1)
        _ = try copyCheckpoint(from: store.open(step: 1), to: SafeTensorsWriter(path: path))
    }

    private static func elements(_ path: String) throws -> [Float] {
        try SafeTensorsReader(path: path).tensor("layer.weight").elements(as: Float.self)
    }

    @Test func theLastCheckpointsOfARunAreAveraged() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2, 4, 6])
        let run = try ToolRun(
            "average", "run", "--last", "3", "--every", "2", "-o", "lawa", "--to", "cairn", "--json", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-average/1")
        #expect(try document.integer("step") == 6)
        let reader = try CheckpointStore(path: directory.path("lawa")).open(step: 6)
        #expect(try reader.tensor("layer.weight").elements(as: Float.self)[0] == 5)
        #expect(reader.tensors.first { $0.name == "head.weight" }?.tiedTo == "layer.weight")
        let lineage = try #require(reader.manifest.lineage)
        #expect(lineage.operation == "average")
        #expect(lineage.parents.map(\.step) == [2, 4, 6])
        #expect(lineage.parents.allSatisfy { abs(($0.coefficient ?? 0) - 1 / 3) < 1e-15 && $0.saveID != nil })
        // A spacing that the run does not have is said.
        let odd = try ToolRun("average", "run", "--last", "3", "--every", "3", "-o", "x.safetensors", in: directory)
        #expect(odd.failedInOneLine && odd.errors.contains("step 3"), "\(odd.errors)")
        let many = try ToolRun("average", "run", "--last", "9", "-o", "x.safetensors", in: directory)
        #expect(many.failedInOneLine, "\(many.errors)")
    }

    @Test func movingAveragesAndTheBestByAMetric() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [2, 4, 8])
        let ema = try ToolRun("average", "run", "--ema", "0.5", "-o", "ema.safetensors", in: directory)
        #expect(ema.exitCode == 0, "\(ema.errors)")
        // 1 + 2/4 + 4/4 + 8/2
        #expect(try Self.elements(directory.path("ema.safetensors"))[0] == 6.5)
        let best = try ToolRun(
            "average", "run", "--best", "2", "--metric", "loss", "-o", "best.safetensors", "--dtype", "F64", in: directory)
        #expect(best.exitCode == 0, "\(best.errors)")
        let tensor = try SafeTensorsReader(path: directory.path("best.safetensors")).tensor("layer.weight")
        #expect(try tensor.elements(as: Double.self)[0] == 7)
        #expect(try ToolRun("average", "run", "--best", "2", "-o", "x.safetensors", in: directory).exitCode == 64)
    }

    @Test func recipesAreReadBesideTheirModels() throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.path("models"), withIntermediateDirectories: true)
        try Self.write([1, 2, 3, 4], to: directory.path("models/a.safetensors"))
        try Self.write([3, 6, 3, 0], to: directory.path("models/b.safetensors"))
        try Data(
            """
            merge_method: linear
            models: [{model: a.safetensors, parameters: {weight: 3}}, {model: b.safetensors, parameters: {weight: 1}}]
            dtype: float32
            """.utf8
        ).write(to: directory.url.appendingPathComponent("models/linear.yml"))
        let run = try ToolRun("merge", "--recipe", "models/linear.yml", "-o", "ab.safetensors", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(try Self.elements(directory.path("ab.safetensors")) == [1.5, 3, 3, 3])
        let reader = try SafeTensorsReader(path: directory.path("ab.safetensors"))
        #expect(reader.metadata.contains { $0.name == "cairn.lineage" && "\($0.value)".contains("merge") })
        #expect(try reader.tensor("counter").elements(as: Int64.self) == [7])
        let again = try ToolRun("merge", "models/linear.yml", "-o", "ab.safetensors", in: directory)
        #expect(again.failedInOneLine && again.errors.contains("ab.safetensors"))
        let over = try ToolRun("merge", "models/linear.yml", "-o", "models/a.safetensors", "--force", in: directory)
        #expect(over.failedInOneLine, "\(over.errors)")
        #expect(try Self.elements(directory.path("models/a.safetensors")) == [1, 2, 3, 4])
    }

    @Test func adaptersAreAddedToModels() throws {
        let directory = try TemporaryDirectory()
        try Self.write([1, 2, 3, 4], to: directory.path("base.safetensors"))
        try FileManager.default.createDirectory(atPath: directory.path("lora"), withIntermediateDirectories: true)
        var state = TrainingState()
        state.set(try Tensor([1, 10] as [Float], [1, 2]), for: "base_model.model.layer.lora_A.weight")
        state.set(try Tensor([1, 2] as [Float], [2, 1]), for: "base_model.model.layer.lora_B.weight")
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(state, step: 1)
        _ = try copyCheckpoint(
            from: store.open(step: 1), to: SafeTensorsWriter(path: directory.path("lora/adapter_model.safetensors")))
        try Data(#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "bias": "none"}"#.utf8)
            .write(to: directory.url.appendingPathComponent("lora/adapter_config.json"))
        try Data("{merge_method: passthrough, models: [{model: base.safetensors+lora}]}".utf8)
            .write(to: directory.url.appendingPathComponent("lora.yml"))
        let run = try ToolRun("merge", "lora.yml", "-o", "merged.safetensors", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(try Self.elements(directory.path("merged.safetensors")) == [3, 22, 7, 44])
    }

    /// What is asked of the result does not change what the adapter is added to.
    @Test func adaptersAreAddedBeforeTypesAndNamesAreChosen() throws {
        let directory = try TemporaryDirectory()
        try Self.write([1, 2, 3, 4], to: directory.path("base.safetensors"))
        // The names and scales of trainers of image models, in a file alone.
        var state = TrainingState()
        state.set(try Tensor([1, 10] as [Float], [1, 2]), for: "lora_unet_layer.lora_down.weight")
        state.set(try Tensor([1, 2] as [Float], [2, 1]), for: "lora_unet_layer.lora_up.weight")
        state.set(try Tensor([2] as [Float], []), for: "lora_unet_layer.alpha")
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(state, step: 1)
        _ = try copyCheckpoint(from: store.open(step: 1), to: SafeTensorsWriter(path: directory.path("lora.safetensors")))
        try Data("{merge_method: passthrough, models: [{model: base.safetensors+lora.safetensors}]}".utf8)
            .write(to: directory.url.appendingPathComponent("lora.yml"))
        let run = try ToolRun(
            "merge", "lora.yml", "-o", "merged.safetensors", "--dtype", "BF16", "--include", "layer.*", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let merged = try SafeTensorsReader(path: directory.path("merged.safetensors"))
        #expect(merged.tensors.map(\.name) == ["layer.weight"])
        #expect(try merged.tensor("layer.weight").converted(to: .f32).elements(as: Float.self) == [3, 22, 7, 44])
        // A model alone is not an adapter.
        try Data("{merge_method: passthrough, models: [{model: base.safetensors+merged.safetensors}]}".utf8)
            .write(to: directory.url.appendingPathComponent("none.yml"))
        let none = try ToolRun("merge", "none.yml", "-o", "none.safetensors", in: directory)
        #expect(none.exitCode == 2 && none.failedInOneLine && none.errors.contains("adapter_config.json"), "\(none.errors)")
    }

    @Test func interpolationsTakePlacesByName() throws {
        let directory = try TemporaryDirectory()
        try Self.write([0, 0, 0, 0], to: directory.path("a.safetensors"))
        try Self.write([4, 8, 0, 4], to: directory.path("b.safetensors"))
        let run = try ToolRun(
            "interpolate", "a.safetensors", "b.safetensors", "--at", "0.25", "-o", "c.safetensors", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(try Self.elements(directory.path("c.safetensors")) == [1, 2, 0, 1])
        let whole = try ToolRun(
            "interpolate", "a.safetensors", "b.safetensors", "--at", "0", "--layer", "layer.*=1", "-o", "d.safetensors",
            in: directory)
        #expect(whole.exitCode == 0, "\(whole.errors)")
        #expect(try Self.elements(directory.path("d.safetensors")) == [4, 8, 0, 4])
        #expect(!whole.errors.contains("changes nothing"))
        let idle = try ToolRun(
            "interpolate", "a.safetensors", "b.safetensors", "--at", "0", "--layer", "layer.*=1", "--layer", "*.weight=0.5", "-o",
            "e.safetensors", in: directory)
        #expect(idle.exitCode == 0 && idle.errors.contains("*.weight\" changes nothing"), "\(idle.errors)")
        #expect(
            try ToolRun("average", "a.safetensors", "b.safetensors", "--higher", "-o", "f.safetensors", in: directory).exitCode
                == 64)
    }

    /// A state as a training loop saves it.
    private static func writeState(_ value: Float, _ step: Int64, to path: String) throws {
        var state = TrainingState()
        state.set(Tensor([value]), for: "model.bn.weight")
        state.set(Tensor([value]), for: "model.bn.running_mean")
        state.set(try Tensor([step], []), for: "model.bn.num_batches_tracked")
        state.set(Tensor([10 * value]), for: "optimizer.state.0.exp_avg")
        state.set(Tensor([Float(step)]), for: "optimizer.state.0.step")
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(state, step: 1)
        _ = try copyCheckpoint(from: store.open(step: 1), to: SafeTensorsWriter(path: path))
    }

    @Test(arguments: ["average", "interpolate", "merge"]) func momentsAreNotAveragedUnlessAskedFor(command: String) throws {
        let directory = try TemporaryDirectory()
        try Self.writeState(1, 100, to: directory.path("a.safetensors"))
        try Self.writeState(3, 200, to: directory.path("b.safetensors"))
        try Data("{merge_method: linear, models: [{model: a.safetensors}, {model: b.safetensors}], parameters: {weight: 1}}".utf8)
            .write(to: directory.url.appendingPathComponent("linear.yml"))
        func run(_ output: String, _ more: [String]) throws -> ToolRun {
            let inputs = command == "merge" ? ["linear.yml"] : ["a.safetensors", "b.safetensors"]
            let place = command == "interpolate" ? ["--at", "0.5"] : []
            return try ToolRun([command] + inputs + place + ["-o", output] + more, in: directory)
        }
        let plain = try run("plain.safetensors", [])
        #expect(plain.exitCode == 0, "\(plain.errors)")
        #expect(plain.errors.contains("optimizer.… (2)") && plain.errors.contains("--all"), "\(plain.errors)")
        #expect(plain.errors.contains("1 statistics of batch normalization"), "\(plain.errors)")
        let reader = try SafeTensorsReader(path: directory.path("plain.safetensors"))
        #expect(reader.tensors.map(\.name) == ["model.bn.num_batches_tracked", "model.bn.running_mean", "model.bn.weight"])
        #expect(try reader.tensor("model.bn.weight").elements(as: Float.self) == [2])
        #expect(try reader.tensor("model.bn.num_batches_tracked").elements(as: Int64.self) == [200])
        let all = try run("all.safetensors", ["--all"])
        #expect(all.exitCode == 0 && all.errors.contains("optimizer.… (2) too"), "\(all.errors)")
        let whole = try SafeTensorsReader(path: directory.path("all.safetensors"))
        #expect(try whole.tensor("optimizer.state.0.step").elements(as: Float.self) == [150])
        // What is chosen by name is taken.
        let chosen = try run("chosen.safetensors", ["--include", "optimizer.*exp_avg"])
        #expect(chosen.exitCode == 0 && !chosen.errors.contains("--all"), "\(chosen.errors)")
        #expect(
            try SafeTensorsReader(path: directory.path("chosen.safetensors")).tensors.map(\.name) == ["optimizer.state.0.exp_avg"]
        )
    }

    /// A pattern has to fit a name of one of the models, not of each.
    @Test func aTensorOfOneModelIsLeftOut() throws {
        let directory = try TemporaryDirectory()
        try Self.write([1, 2, 3, 4], to: directory.path("a.safetensors"))
        var state = TrainingState()
        state.set(try Tensor([3, 4, 5, 6] as [Float], [2, 2]), for: "layer.weight")
        state.set(Tensor([7] as [Int64]), for: "counter")
        state.set(Tensor([1] as [Float]), for: "rotary.inv_freq")
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(state, step: 1)
        _ = try copyCheckpoint(from: store.open(step: 1), to: SafeTensorsWriter(path: directory.path("b.safetensors")))
        let refused = try ToolRun("average", "a.safetensors", "b.safetensors", "-o", "c.safetensors", in: directory)
        #expect(refused.failedInOneLine && refused.errors.contains("rotary.inv_freq"), "\(refused.errors)")
        let run = try ToolRun(
            "average", "a.safetensors", "b.safetensors", "-o", "c.safetensors", "--exclude", "*.inv_freq", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(try Self.elements(directory.path("c.safetensors")) == [2, 3, 4, 5])
        let wrong = try ToolRun(
            "average", "a.safetensors", "b.safetensors", "-o", "d.safetensors", "--exclude", "*.inv_freq", "--exclude",
            "*.inv_frq",
            in: directory)
        #expect(wrong.failedInOneLine && wrong.errors.contains("*.inv_frq"), "\(wrong.errors)")
        #expect(try directory.names() == ["a.safetensors", "b.safetensors", "c.safetensors"])
    }

    /// The second tensor is spoilt: it is named, with its model, and nothing stays.
    @Test func aTensorWithoutADirectionIsNamed() throws {
        let directory = try TemporaryDirectory()
        try Self.write([1, 2, 3, 4], to: directory.path("a.safetensors"))
        try Self.write([1, .nan, 3, 4], to: directory.path("b.safetensors"))
        let run = try ToolRun(
            "interpolate", "a.safetensors", "b.safetensors", "--at", "0.5", "--arc", "-o", "c.safetensors", in: directory)
        #expect(
            run.failedInOneLine && run.errors.contains("layer.weight") && run.errors.contains("b.safetensors"), "\(run.errors)")
        #expect(try directory.names() == ["a.safetensors", "b.safetensors"])
        let line = try ToolRun(
            "interpolate", "a.safetensors", "b.safetensors", "--at", "0.5", "-o", "c.safetensors", in: directory)
        #expect(line.exitCode == 0, "\(line.errors)")
        #expect(try Self.elements(directory.path("c.safetensors"))[1].isNaN)
    }

    @Test func whatDoesNotFitIsNamedAndNothingIsWritten() throws {
        let directory = try TemporaryDirectory()
        try Self.write([1, 2, 3, 4], to: directory.path("a.safetensors"))
        try Self.write([1, 2], to: directory.path("b.safetensors"))
        let run = try ToolRun("average", "a.safetensors", "b.safetensors", "-o", "c.safetensors", in: directory)
        #expect(run.failedInOneLine && run.errors.contains("layer.weight"), "\(run.errors)")
        #expect(try directory.names() == ["a.safetensors", "b.safetensors"])
    }

    /// Averages of what is damaged leave nothing in any format.
    @Test func aFailedMergeLeavesNothing() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4, 8])
        try Corruption.flipLastByte(ofRankFileIn: directory, checkpoint: "run/step-00000004")
        for (format, output) in [("safetensors", "out.safetensors"), ("cairn", "out"), ("torch", "out.pt")] {
            let run = try ToolRun("average", "run", "-o", output, "--to", format, in: directory)
            #expect(run.failedInOneLine, "\(run.errors)")
            #expect(try ToolRun("inspect", output, in: directory).exitCode == 2)
        }
    }
}
