import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// Notes of loss, in every command that writes: said without `--strict`, and with it an error that leaves nothing.
@Suite struct StrictTests {
    private static let large = "\"w\": 1 of 3 numbers are too large for F16"

    /// Two checkpoints whose numbers are beyond F16, and one with a value that safetensors has no place for.
    private func directory() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        for (name, factor) in [("a", Float(1)), ("b", 2)] {
            var state = TrainingState()
            state.set(try Tensor([1, 2, 70000 * factor] as [Float], [3]), for: "w")
            try CheckpointStore(path: directory.path(name)).save(state, step: 1)
        }
        var state = TrainingState()
        state.set(try Tensor([1, 2, 3] as [Float], [3]), for: "w")
        state.set(.integer(3), for: "step")
        try CheckpointStore(path: directory.path("c")).save(state, step: 1)
        let recipe =
            "merge_method: linear\nmodels:\n  - {model: a@1, parameters: {weight: 1}}\n  - {model: b@1, parameters: {weight: 1}}\n"
        try Data(recipe.utf8).write(to: URL(fileURLWithPath: directory.path("recipe.yml")))
        return directory
    }

    @Test(arguments: [
        ["convert", "a@1", "out.safetensors", "--to", "safetensors", "--dtype", "F16"],
        ["convert", "a@1", "out.pt", "--to", "torch", "--dtype", "float16"],
        ["convert", "a@1", "out", "--to", "dcp", "--dtype", "F16"],
        ["convert", "a@1", "out.npz", "--to", "npz", "--dtype", "F16"],
        ["convert", "a@1", "out.h5", "--to", "hdf5", "--dtype", "F16"],
        ["convert", "a@1", "out", "--to", "cairn", "--dtype", "F16"],
        ["average", "a@1", "b@1", "-o", "out.safetensors", "--dtype", "F16"],
        ["merge", "recipe.yml", "-o", "out.safetensors", "--dtype", "F16"],
        ["interpolate", "a@1", "b@1", "--at", "0.5", "-o", "out.safetensors", "--dtype", "F16"],
    ])
    func numbersThatDoNotFitAreNamed(arguments: [String]) throws {
        let directory = try directory()
        let before = try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
        let strict = try ToolRun(arguments + ["--strict"], in: directory)
        #expect(strict.failedInOneLine, "\(strict.errors)")
        #expect(strict.errors.contains("notes of loss are errors here: \(Self.large)"), "\(strict.errors)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == before)
        let plain = try ToolRun(arguments + ["--json"], in: directory)
        #expect(plain.exitCode == 0, "\(plain.errors)")
        let notes = try plain.document().array("notes").map { try $0.asString() }
        #expect(notes.count { $0.hasPrefix(Self.large) } == 1, "\(notes)")
        #expect(plain.errors.contains("cairn: note: \(Self.large)"))
    }

    @Test(arguments: [
        ["convert", "c@1", "out.safetensors", "--to", "safetensors"],
        ["average", "c", "-o", "out.safetensors"],
        ["align", "c@1", "c@1", "--spec", "spec.json", "-o", "out.safetensors"],
    ])
    func whatAFormatDoesNotHoldIsAnErrorToo(arguments: [String]) throws {
        let directory = try directory()
        let spec = #"{"schema": "cairn-permutations/1", "axes": {"w": ["hidden"]}}"#
        try Data(spec.utf8).write(to: URL(fileURLWithPath: directory.path("spec.json")))
        let strict = try ToolRun(arguments + ["--strict"], in: directory)
        #expect(strict.exitCode == 2)
        #expect(strict.errors.contains("\"step\" is not a tensor"), "\(strict.errors)")
        #expect(!FileManager.default.fileExists(atPath: directory.path("out.safetensors")))
    }

    @Test func whatLosesNothingIsWritten() throws {
        let directory = try directory()
        for arguments in [
            ["convert", "a@1", "out.safetensors", "--to", "safetensors", "--dtype", "BF16", "--strict"],
            ["reshard", "a@1", "out", "--mesh", "dp=2", "--layout", "fsdp", "--strict"],
            ["average", "a@1", "b@1", "-o", "mean.safetensors", "--strict"],
        ] {
            let run = try ToolRun(arguments, in: directory)
            #expect(run.exitCode == 0 && run.errors.isEmpty, "\(run.errors)")
        }
    }

    /// One line of damage or none: what was read, and what there is no checksum for.
    @Test func verifySaysWhatNobodyCanCheck() throws {
        let directory = try directory()
        _ = try ToolRun("convert", "a@1", "m.safetensors", "--to", "safetensors", in: directory)
        _ = try ToolRun("convert", "a@1", "m.npy", "--to", "npy", in: directory)
        _ = try ToolRun("convert", "a@1", "m.npz", "--to", "npz", in: directory)
        _ = try ToolRun("convert", "a@1", "m.h5", "--to", "hdf5", in: directory)
        _ = try ToolRun("convert", "a@1", "shards", "--to", "dcp-safetensors", in: directory)
        func checked(_ path: String, deep: Bool = true) throws -> [String] {
            let document = try ToolRun(["verify", path, "--json"] + (deep ? ["--deep"] : []), in: directory).document()
            let result = try document.array("checkpoints")[0].asObject()
            let isSummed = try result.integer("bytes_without_checksum") == 0
            let notes = try result.array("notes").map { try $0.asString() }
            if deep {
                #expect(isSummed == notes.isEmpty && notes.allSatisfy { $0.contains("no checksums") }, "\(path): \(notes)")
            }
            return try result.array("checked").map { try $0.asString() }
        }
        #expect(try checked("a@1") == ["structure", "coverage", "checksums", "data"])
        #expect(try checked("a@1", deep: false) == ["structure", "coverage", "checksums of the description"])
        #expect(try checked("m.npz") == ["structure", "checksums", "data"])
        #expect(try checked("m.npz", deep: false) == ["structure"])
        #expect(try checked("m.npy") == ["structure", "data"])
        #expect(try checked("m.h5") == ["structure", "data"])
        #expect(try checked("m.safetensors") == ["structure", "data"])
        #expect(try checked("shards") == ["structure", "coverage", "data"])
    }
}
