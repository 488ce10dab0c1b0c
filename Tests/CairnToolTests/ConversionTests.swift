import CairnBase
import CairnCheckpoint
import CairnTesting
import Foundation
import Testing

@Suite struct Conversion {
    private static let destinations = [
        ("safetensors", "out.safetensors"), ("cairn", "copy"), ("safetensors-sharded", "out"),
    ]

    @Test func aRoundTripThroughSafetensorsKeepsEverything() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        let out = try ToolRun("convert", "run@4", "out.safetensors", "--to", "safetensors", in: directory)
        #expect(out.exitCode == 0)
        #expect(out.errors.contains("head.weight"))
        let back = try ToolRun(
            "convert", "out.safetensors", "back", "--to", "cairn", "--step", "7", "--json", in: directory)
        #expect(try back.document().string("schema") == "cairn-convert/1")
        #expect(try back.document().integer("step") == 7)
        let difference = try ToolRun("diff", "run@4", "back@7", in: directory)
        #expect(difference.exitCode == 0, "\(difference.output)")
        let lineage = try ToolRun("inspect", "back@7", "--json", in: directory).document().object("lineage")
        #expect(try lineage.string("operation") == "conversion")
    }

    @Test func selectionRenamingAndCastingApplyInTurn() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        let run = try ToolRun(
            "convert", "run@4", "out.safetensors", "--to", "safetensors", "--include", "layer.*", "--exclude", "*.bias",
            "--rename", "layer.*=model.$1", "--dtype", "F16", in: directory)
        #expect(run.exitCode == 0, "\(run.errors)")
        let tensors = try ToolRun("inspect", "out.safetensors", "--json", in: directory).document().array("tensors")
        #expect(tensors.count == 1)
        #expect(try tensors[0].asObject().string("fqn") == "model.weight")
        #expect(try tensors[0].asObject().string("dtype") == "F16")
    }

    @Test func nothingIsReplacedWithoutForce() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4, 8])
        for (format, destination) in Self.destinations {
            let first = ["convert", "run@4", destination, "--to", format] + (format == "cairn" ? ["--step", "1"] : [])
            let second = first.map { $0 == "run@4" ? "run@8" : $0 }
            #expect(try ToolRun(first, in: directory).exitCode == 0)
            let refused = try ToolRun(second, in: directory)
            #expect(refused.failedInOneLine && refused.errors.contains(destination), "\(refused.errors)")
            let result = format == "cairn" ? destination + "@1" : destination
            #expect(try ToolRun("diff", "run@4", result, in: directory).exitCode == 0)
            #expect(try ToolRun(second + ["--force"], in: directory).exitCode == 0)
            #expect(try ToolRun("diff", "run@8", result, in: directory).exitCode == 0)
        }
    }

    @Test func theSourceIsNeverWrittenOver() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        _ = try ToolRun("convert", "run", "model.safetensors", "--to", "safetensors", in: directory)
        _ = try ToolRun(
            "convert", "run", "many", "--to", "safetensors-sharded", "--max-shard-size", "20", in: directory)
        try FileManager.default.createSymbolicLink(atPath: directory.path("link"), withDestinationPath: "many")
        let attempts = [
            ["run@latest", "run", "--to", "cairn"],
            ["run@4", "run", "--to", "cairn", "--step", "4"],
            ["run@4", "run/step-00000004", "--to", "safetensors"],
            ["model.safetensors", "model.safetensors", "--to", "safetensors"],
            ["model.safetensors", ".", "--to", "safetensors-sharded"],
            ["many", "many/model.safetensors", "--to", "safetensors"],
            ["many/model.safetensors.index.json", "link", "--to", "safetensors-sharded"],
            ["many", "many", "--to", "cairn"],
            ["many", "many/other.safetensors", "--to", "safetensors"],
            ["many", "many/inner", "--to", "dcp"],
            ["many", "many/a.pt", "--to", "torch"],
            ["run@4", "run/other.safetensors", "--to", "safetensors"],
            ["run@4", "run", "--to", "dcp"],
            ["run@4", "run/inner", "--to", "dcp"],
        ]
        for attempt in attempts {
            let run = try ToolRun(["convert"] + attempt + ["--force"], in: directory)
            #expect(run.failedInOneLine, "\(attempt): \(run.exitCode) \(run.output) \(run.errors)")
        }
        #expect(try ToolRun("diff", "run", "model.safetensors", in: directory).exitCode == 0)
        #expect(try ToolRun("diff", "run", "many", in: directory).exitCode == 0)
    }

    /// A model is published in several formats side by side, and what is exported from a folder may lie below it.
    @Test func whatStandsBesideTheSourceOrBelowItIsWritten() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        try FileManager.default.createDirectory(atPath: directory.path("hub"), withIntermediateDirectories: false)
        for arguments in [
            ["run", "hub/pytorch_model.bin", "--to", "torch"], ["hub", "hub/model.safetensors", "--to", "safetensors"],
            ["hub/model.safetensors", "hub/a.npz", "--to", "npz"],
            ["hub/model.safetensors", "hub/run", "--to", "cairn"], ["run", "many", "--to", "safetensors-sharded"],
            ["many", "many/export", "--to", "safetensors"], ["many", "many/run", "--to", "cairn"],
            ["run@4", "run", "--to", "cairn", "--step", "5"],
        ] {
            let run = try ToolRun(["convert"] + arguments, in: directory)
            #expect(run.exitCode == 0, "\(arguments): \(run.errors)")
        }
        #expect(try ToolRun("diff", "hub/model.safetensors", "hub/pytorch_model.bin", in: directory).exitCode == 0)
        #expect(try ToolRun("diff", "many/run", "run@5", in: directory).exitCode == 0)
    }

    @Test func aFailedConversionLeavesNothing() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [4])
        try Corruption.flipLastByte(ofRankFileIn: directory, checkpoint: "run/step-00000004")
        for (format, destination) in Self.destinations {
            let run = try ToolRun("convert", "run@4", destination, "--to", format, in: directory)
            #expect(run.failedInOneLine, "\(run.errors)")
            let inspection = try ToolRun("inspect", destination, in: directory)
            #expect(inspection.exitCode == 2, "\(format): \(inspection.output)")
        }
    }

    @Test func aFailedConversionLeavesNotEvenADirectory() throws {
        let directory = try TemporaryDirectory()
        let damaged = Repository.fixture("torch/other_containers/bitflip_data.pt")
        for format in ["cairn", "safetensors", "safetensors-sharded", "dcp", "dcp-safetensors", "torch", "npz"] {
            let run = try ToolRun("convert", damaged, "new/sub/" + format, "--to", format, in: directory)
            #expect(run.failedInOneLine && run.errors.contains("CRC-32"), "\(format): \(run.errors)")
            #expect(try directory.names().isEmpty, "\(format)")
        }
        try FileManager.default.createDirectory(atPath: directory.path("old"), withIntermediateDirectories: false)
        #expect(try ToolRun("convert", damaged, "old", "--to", "cairn", in: directory).exitCode == 2)
        #expect(try directory.names() == ["old"])
    }
}

/// Damages files.
enum Corruption {
    /// Flips a bit of the last byte of a checkpoint's only rank file: the end of some tensor.
    static func flipLastByte(ofRankFileIn directory: TemporaryDirectory, checkpoint: String) throws {
        let names = try directory.names(checkpoint).filter { $0.hasPrefix("rank-") }
        let url = URL(fileURLWithPath: directory.path(checkpoint + "/" + names[0]))
        var bytes = try Data(contentsOf: url)
        bytes[bytes.count - 1] ^= 1
        try bytes.write(to: url)
    }
}
