import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// Every format that can be written, whichever there are: the tool lists them itself.
@Suite struct EveryFormat {
    private static func formats(in directory: TemporaryDirectory) throws -> [String] {
        let refusal = try ToolRun("convert", "a", "b", "--to", "no-such-format", in: directory).errors
        return refusal.split(separator: "\n").filter { $0.hasPrefix("  - ") }.map { String($0.dropFirst(4)) }
    }

    /// A state as the trainer saves it: parameters, moments, a tied name, and its own values.
    private func save(at path: String) throws {
        var state = TrainingState()
        state.set(try Tensor([1, 2, 3, 4, 5, 6] as [Float], [2, 3]), for: "model.embed")
        state.set(try Tensor([0.5, -0.5] as [Float], [2]), for: "model.bias")
        for name in ["embed", "bias"] {
            let shape: Shape = name == "embed" ? [2, 3] : [2]
            for moment in ["exp_avg", "exp_avg_sq"] {
                state.set(try Tensor(zeros: .f32, shape), for: "optimizer.\(moment).model.\(name)")
            }
        }
        state.tie("model.head", to: "model.embed")
        state.set(.integer(400), for: "step")
        state.set(.dictionary(["seed": .integer(7), "position": .list([.integer(1), .integer(2)])]), for: "data")
        try CheckpointStore(path: path).save(state, step: 4)
    }

    private func tensors(_ digest: JSONObject) throws -> [String: String] {
        var found: [String: String] = [:]
        for element in try digest.array("tensors") {
            let tensor = try element.asObject()
            found[try tensor.string("fqn")] =
                "\(try tensor.string("dtype")) \(try tensor.array("shape")) \(try tensor.string("sha256"))"
        }
        return found
    }

    private static let tie = "\"model.head\" is \"model.embed\" under another name and stored once; other readers will not see it"
    private static let text = "2 values are not tensors and kept as text that other readers will not understand"

    /// What each format says of the state. Only the notes of `deepspeed-universal` are of names that do not come back.
    private static let notes: [String: [String]] = [
        "cairn": [], "torch": [], "dcp": [], "hdf5": [], "npz": [tie], "safetensors": [tie, text],
        "safetensors-sharded": [tie, text], "dcp-safetensors": [tie, text],
        "deepspeed-universal": [
            "names become DeepSpeed's: the parameter NAME is NAME.fp32, its states are NAME.exp_avg and so on",
            "one parameter is another one under a second name, which is noted as shared_params: \"model.head\"",
            "there are no param_groups, so that DeepSpeed will take the options of the job that loads this; only an optimizer "
                + "with one group loads all of it",
        ],
    ]

    /// The name that a tensor has after a way through a format.
    private static func name(_ name: String, in format: String) -> String {
        guard format == "deepspeed-universal" else { return name }
        for state in ["exp_avg", "exp_avg_sq"] where name.hasPrefix("optimizer.\(state).") {
            return name.dropFirst("optimizer.\(state).".count) + "." + state
        }
        return name + ".fp32"
    }

    @Test func aTrainingStateComesBackOrWhatIsLostIsSaid() throws {
        let directory = try TemporaryDirectory()
        try save(at: directory.path("run"))
        let source = try ToolRun("digest", "run@4", "--json", in: directory).document()
        let formats = try Self.formats(in: directory)
        #expect(Set(formats) == Set(Self.notes.keys).union(["npy", "keras-weights"]))
        for format in formats {
            let out = try ToolRun("convert", "run@4", "out-" + format, "--to", format, "--json", in: directory)
            // One has room for one tensor, the other for a Keras model's names alone.
            if ["npy", "keras-weights"].contains(format) {
                #expect(out.failedInOneLine, "\(out.errors)")
                #expect(try !FileManager.default.contentsOfDirectory(atPath: directory.path).contains("out-" + format))
                continue
            }
            #expect(out.exitCode == 0, "\(format): \(out.errors)")
            let notes = try out.document().array("notes").map { try $0.asString() }
            #expect(notes == Self.notes[format], "\(format)")
            let digest = try ToolRun("digest", "out-" + format, "--json", in: directory)
            #expect(digest.exitCode == 0, "\(format): \(digest.errors)")
            let result = try digest.document()
            let wanted = try tensors(source).map { (Self.name($0.key, in: format), $0.value) }
            let found = try tensors(result)
            for (name, content) in wanted { #expect(found[name] == content, "\(format): \(name)") }
            let objects = try result.array("objects")
            for object in try source.array("objects") { #expect(objects.contains(object), "\(format): \(object)") }
            guard format != "deepspeed-universal" else { continue }
            // Nothing was added either; DeepSpeed's files have a copy of each weight and options that its loaders ask for.
            #expect(found.count == wanted.count, "\(format)")
            #expect(try objects.count == source.array("objects").count, "\(format)")
        }
    }

    @Test func aDirectoryThatMayBeTwoThingsIsRefusedWithBoth() throws {
        let directory = try TemporaryDirectory()
        try save(at: directory.path("run"))
        for format in ["dcp", "deepspeed-universal", "safetensors"] {
            _ = try ToolRun("convert", "run@4", "mixed", "--to", format, in: directory)
        }
        let run = try ToolRun("inspect", "mixed", in: directory)
        #expect(run.failedInOneLine)
        for name in ["dcp", "deepspeed", "safetensors"] {
            #expect(run.errors.contains(name))
            #expect(try ToolRun("inspect", "mixed", "--format", name, in: directory).exitCode == 0, "\(name)")
        }
    }
}
