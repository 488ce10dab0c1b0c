import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// The tool on weights that are codes with scales: copies are made, numbers are not.
@Suite struct QuantisedCheckpoints {
    private static let codes: [(String, ScalarType, Shape)] = [
        ("l.weight", .f8e4m3, [4, 8]), ("l.weight_scale_inv", .f32, [1, 1]), ("norm.weight", .f32, [8]),
    ]

    private static func save(
        _ path: String, _ tensors: [(String, ScalarType, Shape)] = codes, byte: UInt8 = 0x38
    ) throws {
        var state = TrainingState()
        for (name, type, shape) in tensors {
            let count = type.byteCount(elementCount: shape.elementCount) ?? 0
            let bytes = type == .f32 ? (0..<count).map { UInt8($0 % 4 == 3 ? 0x3f : 0) } : [UInt8](repeating: byte, count: count)
            state.set(
                try Tensor(type, shape) { destination in
                    for index in bytes.indices { destination.storeBytes(of: bytes[index], toByteOffset: index, as: UInt8.self) }
                }, for: name)
        }
        try CheckpointStore(path: path).save(state, step: 1)
    }

    private static func directory() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        for name in ["a", "b"] {
            try save(directory.path(name), byte: name == "a" ? 0x38 : 0x40)
            let run = try ToolRun("convert", name + "@1", name + ".safetensors", "--to", "safetensors", in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
        }
        let recipe =
            "models:\n  - model: a.safetensors\n  - model: b.safetensors\nmerge_method: linear\nparameters: {weight: 1}\n"
        try Data(recipe.utf8).write(to: directory.url.appendingPathComponent("r.yml"))
        let units = #"{"schema": "cairn-permutations/1", "axes": {"l.weight": ["h", null]}}"#
        try Data(units.utf8).write(to: directory.url.appendingPathComponent("units.json"))
        return directory
    }

    private static let computing: [[String]] = [
        ["convert", "a.safetensors", "o.safetensors", "--to", "safetensors", "--dtype", "BF16"],
        ["average", "a.safetensors", "b.safetensors", "-o", "o.safetensors"],
        ["average", "a@1", "b@1", "-o", "o.safetensors"],
        ["merge", "r.yml", "-o", "o.safetensors"],
        ["interpolate", "a.safetensors", "b.safetensors", "--at", "0.5", "-o", "o.safetensors"],
        ["align", "a.safetensors", "b.safetensors", "--spec", "units.json", "-o", "o.safetensors"],
        ["diff", "a.safetensors", "b.safetensors"],
    ]

    @Test(arguments: computing) func nothingIsComputedWithCodes(arguments: [String]) throws {
        let directory = try Self.directory()
        let run = try ToolRun(arguments, in: directory)
        #expect(run.failedInOneLine, "\(run.output) \(run.errors)")
        for hint in ["l.weight", "weight_scale_inv", "FP8", "--exclude"] { #expect(run.errors.contains(hint), "\(run.errors)") }
        #expect(try !directory.names().contains("o.safetensors"))
        // Half of a weight is not a number either; what is not part of a weight is.
        guard arguments[0] != "merge" else { return }
        let codes = try ToolRun(arguments + ["--include", "l.weight"], in: directory)
        #expect(codes.failedInOneLine && codes.errors.contains("l.weight"), "\(codes.errors)")
        guard arguments[0] != "align" else { return }
        let numbers = try ToolRun(arguments + ["--include", "norm.*"], in: directory)
        #expect(numbers.exitCode == 0, "\(numbers.errors)")
    }

    @Test func copiesAreExactAndInspectedWithTheirScheme() throws {
        let directory = try Self.directory()
        let before = try ToolRun("digest", "a.safetensors", "--json", in: directory).document()
        for format in ["torch", "dcp", "safetensors-sharded", "cairn"] {
            let run = try ToolRun("convert", "a.safetensors", "o-" + format, "--to", format, "--json", in: directory)
            #expect(run.exitCode == 0, "\(run.errors)")
            #expect(try run.document().array("notes").isEmpty)
            let after = try ToolRun("digest", "o-" + format, "--json", in: directory).document()
            #expect(try after.array("tensors") == before.array("tensors"))
            let inspected = try ToolRun("inspect", "o-" + format, "--json", in: directory).document()
            let weights = try inspected.object("quantised").array("weights")
            #expect(weights.count == 1)
            #expect(try weights[0].asObject().string("name") == "l.weight")
            #expect(try weights[0].asObject().array("companions") == [.string("l.weight_scale_inv")])
        }
        let text = try ToolRun("inspect", "a.safetensors", in: directory)
        #expect(text.output.contains("quantised") && text.output.contains("weight_scale_inv)"), "\(text.output)")
        let statistics = try ToolRun("inspect", "a.safetensors", "--stats", "--json", in: directory).document()
        for tensor in try statistics.array("tensors").map({ try $0.asObject() }) {
            #expect(try (tensor["stats"] == .null) == (tensor.string("fqn") == "l.weight"))
        }
    }

    @Test func aPairThatIsTornApartIsSaid() throws {
        let directory = try Self.directory()
        for (option, pattern, lost) in [
            ("--exclude", "*_scale_inv", "l.weight_scale_inv"), ("--include", "l.weight_scale_inv", "l.weight"),
        ] {
            let run = try ToolRun(
                "convert", "a.safetensors", "o.safetensors", "--to", "safetensors", "--force", "--json", option, pattern,
                in: directory)
            #expect(run.exitCode == 0)
            let notes = try run.document().array("notes").map { try $0.asString() }
            #expect(notes.count == 1 && notes[0].contains(lost) && notes[0].contains("FP8"), "\(notes)")
            #expect(run.errors.contains(notes[0]))
        }
        for pattern in ["l.*", "norm.*"] {
            let run = try ToolRun(
                "convert", "a.safetensors", "o.safetensors", "--to", "safetensors", "--force", "--json", "--include",
                pattern, in: directory)
            #expect(try run.document().array("notes").isEmpty, "\(run.errors)")
        }
    }

    @Test func aConfigurationTellsOfScalesInAnotherFile() throws {
        let directory = try TemporaryDirectory()
        try Self.save(directory.path("run"), [("l.weight", .f8e4m3, [4, 8])])
        let arguments = ["convert", "run@1", "o.safetensors", "--to", "safetensors", "--force", "--dtype", "F32"]
        #expect(try ToolRun(arguments, in: directory).exitCode == 0)
        let configuration = directory.url.appendingPathComponent("run/config.json")
        try Data(#"{"quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}"#.utf8).write(to: configuration)
        let run = try ToolRun(arguments, in: directory)
        #expect(run.failedInOneLine && run.errors.contains("fp8, e4m3"), "\(run.errors)")
        // One that says nothing of the kind, or nothing at all, is not a hindrance.
        for text in [#"{"model_type": "llama"}"#, "{"] {
            try Data(text.utf8).write(to: configuration)
            #expect(try ToolRun(arguments, in: directory).exitCode == 0)
        }
    }
}
