import CairnBase
import CairnTesting
import Foundation
import Testing

/// The tool on files of PyTorch.
@Suite struct ForeignFormatTests {
    private static let fixtures = Repository.fixture("")

    private static let torch = fixtures + "torch/train_full/ckpt.pt"
    private static let distributed = fixtures + "dcp/w4_dtensor_zoo/checkpoint"

    /// Paths below the fixtures, and what is there.
    private static let places: [(path: String, format: String)] = [
        ("torch/train_full/ckpt.pt", "torch"), ("torch/state_dict/model_proto4.bin", "torch"),
        ("dcp/w4_dtensor_zoo/checkpoint", "dcp"), ("dcp/w4_dtensor_zoo/checkpoint/.metadata", "dcp"),
        ("dcp/w2_hf/checkpoint", "dcp"), ("dcp/w2_hf_consolidated/checkpoint", "safetensors"),
        ("hdf5/h5py_plain/userblock.h5", "hdf5"), ("hdf5/keras/model_bf16.keras", "keras"),
        ("hdf5/keras/sharded.weights.json", "keras"), ("numpy/a.npz", "numpy"), ("numpy/fortran.npy", "numpy"),
    ]

    @Test(arguments: places)
    func formatsAreRecognisedByWhatIsInThem(path: String, format: String) throws {
        let directory = try TemporaryDirectory()
        let document = try ToolRun("inspect", Self.fixtures + path, "--json", in: directory).document()
        #expect(try document.string("format") == format)
        #expect(try !document.array("tensors").isEmpty)
    }

    /// The length of a header that begins a safetensors file may have the bytes that other formats begin with.
    @Test(arguments: [0x0178, 0x8B1F, 0xA181, 0x0108, 0x5A42, 0x5D])
    func aHeadersLengthIsNoMark(length: Int) throws {
        let directory = try TemporaryDirectory()
        var header = Array(#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#.utf8)
        header += [UInt8](repeating: UInt8(ascii: " "), count: max(0, length - header.count))
        let bytes = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> ($0 * 8)) } + header + [1, 2, 3]
        try Data(bytes).write(to: URL(fileURLWithPath: directory.path("x.safetensors")))
        let run = try ToolRun("verify", "x.safetensors", in: directory)
        #expect(run.exitCode == 1 && run.output.contains("the file ends within the data"), "\(run.errors)")
    }

    @Test(arguments: [torch, distributed])
    func aConversionKeepsTheDigest(path: String) throws {
        let directory = try TemporaryDirectory()
        let converted = try ToolRun("convert", path, "run", "--to", "cairn", "--step", "3", in: directory)
        #expect(converted.exitCode == 0, "\(converted.errors)")
        let before = try ToolRun("digest", path, "--json", in: directory).document()
        let after = try ToolRun("digest", "run@3", "--json", in: directory).document()
        #expect(try before.array("tensors") == after.array("tensors"))
        #expect(try before.array("objects") == after.array("objects"))
        let difference = try ToolRun("diff", path, "run@3", in: directory)
        #expect(difference.exitCode == 0, "\(difference.output)")
    }

    @Test(arguments: [
        ("hdf5/keras/model_bf16.keras", "keras-weights", "a.weights.h5"), ("torch/train_full/ckpt.pt", "hdf5", "a.h5"),
        ("torch/train_full/ckpt.pt", "npz", "a.npz"), ("numpy/fortran.npy", "npy", "a.npy"),
        ("hdf5/h5py_plain/latest.h5", "npz", "b.npz"), ("numpy/compressed.npz", "hdf5", "b.h5"),
    ])
    func otherFormatsAreWrittenToo(path: String, format: String, file: String) throws {
        let directory = try TemporaryDirectory()
        let source = Self.fixtures + path
        let converted = try ToolRun("convert", source, file, "--to", format, in: directory)
        #expect(converted.exitCode == 0, "\(converted.errors)")
        let before = try ToolRun("digest", source, "--json", in: directory).document()
        let after = try ToolRun("digest", file, "--json", in: directory).document()
        #expect(try before.array("tensors") == after.array("tensors"))
        #expect(try before.array("objects") == after.array("objects"))
        #expect(try ToolRun("verify", file, "--deep", in: directory).exitCode == 0)
        // Neither replaced unasked nor written over its source.
        #expect(try ToolRun("convert", source, file, "--to", format, in: directory).exitCode == 2)
        #expect(try ToolRun("convert", source, file, "--to", format, "--force", in: directory).exitCode == 0)
        #expect(try ToolRun("convert", file, file, "--to", format, "--force", in: directory).exitCode == 2)
    }

    @Test func whatIsLeftOutIsSaid() throws {
        let directory = try TemporaryDirectory()
        let run = try ToolRun("inspect", Self.torch, in: directory)
        #expect(run.exitCode == 0)
        #expect(run.errors.contains("\"args\" is an object of the class argparse.Namespace"))
    }

    @Test func verificationFindsWhatTorchDoesNot() throws {
        let directory = try TemporaryDirectory()
        let file = Self.fixtures + "torch/other_containers/bitflip_data.pt"
        #expect(try ToolRun("verify", file, in: directory).exitCode == 0)
        let deep = try ToolRun("verify", file, "--deep", "--json", in: directory)
        #expect(deep.exitCode == 1)
        let checkpoint = try deep.document().array("checkpoints")[0].asObject()
        #expect(try checkpoint.array("damage")[0].asObject().string("file") == file)
        #expect(try ToolRun("digest", file, in: directory).exitCode == 2)
        #expect(try ToolRun("verify", Self.distributed, "--deep", in: directory).exitCode == 0)
    }

    @Test func aFileThatWasCutIsDamagedInEveryFormat() throws {
        let directory = try TemporaryDirectory()
        let files = ["torch/state_dict/model_bf16_tied.pt", "torch/variants/legacy_p4.pt", "torch/variants/plain.pkl"]
        for (number, name) in files.enumerated() {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: Self.fixtures + name))
            for length in [0, 12, bytes.count / 2, bytes.count - 1] {
                let cut = "cut\(number)-\(length).pt"
                try bytes.prefix(length).write(to: directory.url.appendingPathComponent(cut))
                #expect(try ToolRun("verify", cut, in: directory).exitCode == 1, "\(name) \(length)")
                #expect(try ToolRun("digest", cut, in: directory).failedInOneLine)
            }
        }
    }

    @Test func whatIsNoCheckpointIsNamed() throws {
        let directory = try TemporaryDirectory()
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 77\n"
        for name in ["a.safetensors", "b.bin", "c.h5", "d.npz"] {
            try pointer.write(toFile: directory.path(name), atomically: true, encoding: .utf8)
            for command in ["inspect", "verify"] {
                let run = try ToolRun(command, name, in: directory)
                #expect(run.failedInOneLine, "\(run.errors)")
                #expect(run.errors.contains("a Git LFS pointer, which stands for a file of 77 bytes"))
            }
        }
        let safetensors = try Data(contentsOf: URL(fileURLWithPath: Self.fixtures + "reports/18-truncated/full.safetensors"))
        try safetensors.write(to: directory.url.appendingPathComponent("e.pt"))
        #expect(try ToolRun("digest", "e.pt", in: directory).exitCode == 0)
    }

    @Test func aConversionThatWouldWriteNothingFails() throws {
        let directory = try TemporaryDirectory()
        // A method of an object that holds the only tensor.
        let pickle =
            "(dVx\nc__builtin__\ngetattr\n(cmy\nThing\n)R(dVw\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
            + "(I1\n(I1\ntcnumpy\ndtype\n(Vf4\nI0\nI1\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntbI00\nc_codecs\nencode\n(Vabcd\nVlatin1\ntRtbsbVrun\ntRs."
        try pickle.write(toFile: directory.path("x.pkl"), atomically: true, encoding: .utf8)
        for (format, name) in [
            ("safetensors", "o.safetensors"), ("torch", "o.pt"), ("dcp", "o"), ("cairn", "run"), ("npz", "o.npz"),
        ] {
            let run = try ToolRun("convert", "x.pkl", name, "--to", format, in: directory)
            #expect(run.exitCode == 2, "\(format)")
            #expect(run.errors.contains("no tensor of the checkpoint can be read"), "\(run.errors)")
            #expect(try !directory.names().contains(name))
        }
    }

    @Test(arguments: ["evil_global.pt", "truncated.pt", "missing_storage.pt", "short_storage.pt"])
    func whatIsRefusedIsSaidInOneLine(file: String) throws {
        let directory = try TemporaryDirectory()
        let path = Self.fixtures + "torch/other_containers/" + file
        let run = try ToolRun("digest", path, "--json", in: directory)
        #expect(run.failedInOneLine, "\(run.errors)")
        #expect(run.errors.contains(path))
    }
}

/// The tool writing what PyTorch reads.
@Suite struct ForeignConversionTests {
    private static let fixtures =
        #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        + "/Fixtures/"

    @Test(arguments: [
        ("torch", "state.pt", []), ("dcp", "state", ["--shards", "3"]), ("dcp-safetensors", "shards", ["--shards", "2"]),
    ])
    func aConversionThereAndBackKeepsTheDigest(format: String, name: String, options: [String]) throws {
        let directory = try TemporaryDirectory()
        let source = Self.fixtures + "torch/train_full/ckpt.pt"
        let there = try ToolRun(["convert", source, name, "--to", format] + options, in: directory)
        #expect(there.exitCode == 0, "\(there.errors)")
        let back = try ToolRun("convert", name, "run", "--to", "cairn", in: directory)
        #expect(back.exitCode == 0, "\(back.errors)")
        let before = try ToolRun("digest", source, "--json", in: directory).document()
        for path in [name, "run"] {
            let after = try ToolRun("digest", path, "--json", in: directory).document()
            #expect(try before.array("tensors") == after.array("tensors"), "\(path)")
            #expect(try before.array("objects") == after.array("objects"), "\(path)")
        }
        // The source is never written over, and nothing is replaced unasked.
        #expect(try ToolRun(["convert", name, name, "--to", format, "--force"], in: directory).failedInOneLine)
        #expect(try ToolRun(["convert", source, name, "--to", format], in: directory).exitCode == 2)
    }

    @Test func shardsAreForFormatsThatHaveThem() throws {
        let directory = try TemporaryDirectory()
        let source = Self.fixtures + "torch/views/views.pt"
        #expect(try ToolRun("convert", source, "x.pt", "--to", "torch", "--shards", "2", in: directory).exitCode == 64)
    }

    @Test func aMisalignedFileIsCopiedAligned() throws {
        let directory = try TemporaryDirectory()
        var json = #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#
        json += #""b":{"dtype":"F32","shape":[4],"data_offsets":[1,17]}}"#
        json += String(repeating: " ", count: (8 - json.utf8.count % 8) % 8)
        let header = Array(json.utf8)
        let odd = URL(fileURLWithPath: directory.path + "/odd.safetensors")
        try Data([UInt8(header.count), 0, 0, 0, 0, 0, 0, 0] + header + (0..<17).map { UInt8($0) }).write(to: odd)
        #expect(try ToolRun("repair", "odd.safetensors", in: directory).failedInOneLine)
        let repair = try ToolRun("repair", "odd.safetensors", "--output", "even.safetensors", in: directory)
        #expect(repair.exitCode == 0, "\(repair.errors)")
        #expect(repair.output.contains("1 tensors"))
        let before = try ToolRun("digest", "odd.safetensors", "--json", in: directory).document()
        let after = try ToolRun("digest", "even.safetensors", "--json", in: directory).document()
        #expect(try before.array("tensors") == after.array("tensors"))
        let again = try ToolRun("repair", "even.safetensors", "--json", in: directory).document()
        #expect(try again.string("state") == "intact")
    }
}
