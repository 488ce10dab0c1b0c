import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// `cairn protect`, and what `verify`, `repair` and the reading commands do with parity.
@Suite struct ProtectionToolTests {
    private func bytes(_ directory: TemporaryDirectory, _ name: String) throws -> Data {
        try Data(contentsOf: directory.url.appendingPathComponent(name))
    }

    private func contents(_ directory: TemporaryDirectory, _ folder: String) throws -> [String: Data] {
        var found: [String: Data] = [:]
        for name in try directory.names(folder) { found[name] = try bytes(directory, folder + "/" + name) }
        return found
    }

    private func flip(_ directory: TemporaryDirectory, _ name: String, at place: Int) throws {
        var data = try bytes(directory, name)
        data[place < 0 ? data.count + place : place] ^= 0x55
        try data.write(to: directory.url.appendingPathComponent(name))
    }

    private func remove(_ directory: TemporaryDirectory, _ name: String) throws {
        try FileManager.default.removeItem(atPath: directory.path(name))
    }

    @Test func aProtectedCheckpointOfARunIsVerifiedReadAndRepaired() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1, 2])
        let digest = try ToolRun("digest", "run@2", "--json", in: directory).output
        let protect = try ToolRun("protect", "run@2", "--parity", "3", "--data", "4", "--json", in: directory)
        #expect(protect.exitCode == 0, "\(protect.errors)")
        let document = try protect.document()
        #expect(try document.string("schema") == "cairn-protect/1" && document.integer("parity") == 3)
        #expect(try document.array("parity_files").count == 3)
        #expect(try ToolRun("protect", "run@2", in: directory).failedInOneLine)
        let folder = "run/step-00000002"
        let whole = try contents(directory, folder)
        let sound = try ToolRun("verify", "run@2", "--deep", in: directory)
        #expect(sound.exitCode == 0 && sound.output.contains("3 more of 4 columns may be lost"), "\(sound.output)")

        let rank = try #require(whole.keys.first { $0.hasPrefix("rank") })
        try flip(directory, folder + "/" + rank, at: -9)
        try remove(directory, folder + "/manifest.json")
        let damaged = try ToolRun("verify", "run@2", "--deep", "--json", in: directory)
        #expect(damaged.exitCode == 1, "\(damaged.errors)")
        let checkpoint = try #require(try damaged.document().array("checkpoints").first?.asObject())
        let protection = try #require(try checkpoint.array("protection").first?.asObject())
        #expect(try protection.bool("repairable") && protection.integer("may_lose") < 3)
        let states = try protection.array("files").map { try $0.asObject().string("state") }
        #expect(states.contains("lost") && states.contains("damaged"))
        // Read as it was, without a byte being written.
        let before = try contents(directory, folder)
        let read = try ToolRun("digest", "run@2", "--json", in: directory)
        #expect(read.exitCode == 0 && read.output == digest, "\(read.errors)")
        #expect(read.errors.contains("run cairn repair run") && read.errors.contains(rank))
        #expect(try contents(directory, folder) == before)
        // A listing tells it from what a killed save leaves.
        #expect(try ToolRun("ls", "run", in: directory).output.contains("parity can rebuild it"))
        let listed = try ToolRun("ls", "run", "--json", in: directory).document().array("checkpoints").last?.asObject()
        #expect(try listed?.bool("repairable") == true)
        // The newest is it, too.
        #expect(try ToolRun("digest", "run", "--json", in: directory).output == digest)

        let repair = try ToolRun("repair", "run@2", "--json", in: directory)
        #expect(repair.exitCode == 0, "\(repair.errors)")
        let repaired = try #require(try repair.document().array("checkpoints").first?.asObject())
        #expect(try repaired.string("state") == "repaired")
        #expect(try contents(directory, folder) == whole)
        #expect(try ToolRun("repair", "run", in: directory).output.contains("every protected file is as it was"))
        #expect(try ToolRun("digest", "run@2", in: directory).errors.isEmpty)
        // It goes with the checkpoint.
        try SampleStates.run(at: directory.path("run"), steps: [3])
        #expect(try ToolRun("prune", "run", "--keep-last", "1", in: directory).exitCode == 0)
        #expect(try directory.names("run") == ["step-00000003"])
    }

    @Test func aSingleFileIsProtectedAgainstRotAndNotAgainstItsLoss() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        #expect(try ToolRun("convert", "run@1", "model.safetensors", "--to", "safetensors", in: directory).exitCode == 0)
        let whole = try bytes(directory, "model.safetensors")
        let protect = try ToolRun("protect", "model.safetensors", "--parity", "1", "--data", "4", in: directory)
        #expect(protect.exitCode == 0 && protect.errors.contains("not the loss of a whole file"), "\(protect.errors)")
        #expect(try directory.names() == ["model.safetensors", "model.safetensors.cairn-parity-00", "run"])
        try flip(directory, "model.safetensors", at: -1)
        // Safetensors has no checksums: parity tells.
        #expect(try ToolRun("verify", "model.safetensors", in: directory).exitCode == 0)
        let verify = try ToolRun("verify", "model.safetensors", "--deep", in: directory)
        #expect(verify.exitCode == 1 && verify.output.contains("`cairn repair`"), "\(verify.output)")
        #expect(try ToolRun("protect", "model.safetensors", "--force", "--output", "x", in: directory).exitCode == 64)
        #expect(try ToolRun("repair", "model.safetensors", in: directory).exitCode == 0)
        #expect(try bytes(directory, "model.safetensors") == whole)
        // Cut off within the last quarter.
        try whole.prefix(whole.count - 5).write(to: directory.url.appendingPathComponent("model.safetensors"))
        #expect(try ToolRun("verify", "model.safetensors", in: directory).exitCode == 1)
        #expect(try ToolRun("repair", "model.safetensors", in: directory).exitCode == 0)
        #expect(try bytes(directory, "model.safetensors") == whole)
        try remove(directory, "model.safetensors")
        let refused = try ToolRun("repair", "model.safetensors", in: directory)
        #expect(refused.failedInOneLine && refused.errors.contains("more is lost than parity brings back"), "\(refused.errors)")
    }

    @Test func aDirectoryIsProtectedWithAllThatIsInIt() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        #expect(try ToolRun("convert", "run@1", "model", "--to", "dcp", in: directory).exitCode == 0)
        #expect(
            try ToolRun("convert", "run@1", "shards", "--to", "safetensors-sharded", "--max-shard-size", "4KB", in: directory)
                .exitCode == 0)
        for name in ["model", "shards"] {
            let digest = try ToolRun("digest", name, "--json", in: directory).output
            let files = try LocalStorage(root: directory.path(name)).list("").map(\.key)
            let protect = try ToolRun("protect", name, "--layout", "files", in: directory)
            #expect(protect.exitCode == 0, "\(protect.errors)")
            // Other readers see what they saw.
            #expect(try ToolRun("digest", name, "--json", in: directory).output == digest)
            let whole = try contents(directory, name)
            for lost in files.prefix(3) {
                try remove(directory, name + "/" + lost)
                #expect(try ToolRun("repair", name, in: directory).exitCode == 0, "\(name), \(lost)")
                #expect(try contents(directory, name) == whole)
            }
            #expect(try ToolRun("digest", name, "--json", in: directory).output == digest)
            let document = try ToolRun("repair", name, "--json", in: directory).document()
            #expect(try document.string("schema") == "cairn-repair/1" && document.bool("ok"))
        }
    }

    @Test func whatIsDamagedIsNotProtected() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        let rank = try #require(try directory.names("run/step-00000001").first { $0.hasPrefix("rank") })
        try flip(directory, "run/step-00000001/" + rank, at: -3)
        let run = try ToolRun("protect", "run@1", in: directory)
        #expect(run.failedInOneLine && run.errors.contains("parity would keep the damage"), "\(run.errors)")
        #expect(try directory.names("run/step-00000001").count == 2)
        for wrong in [["--parity", "0"], ["--data", "0"], ["--parity", "200", "--data", "100"], ["--layout", "x"]] {
            #expect(try ToolRun(["protect", "run@1"] + wrong, in: directory).exitCode == 64)
        }
        #expect(try ToolRun("protect", "nothing", in: directory).failedInOneLine)
    }

    @Test func ofALostFileIsSaidThatParityBringsItBack() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        #expect(try ToolRun("convert", "run@1", "model.npz", "--to", "npz", in: directory).exitCode == 0)
        let digest = try ToolRun("digest", "model.npz", "--json", in: directory).output
        #expect(try ToolRun("protect", "model.npz", "--parity", "1", "--layout", "files", in: directory).exitCode == 0)
        try remove(directory, "model.npz")
        let lost = try ToolRun("digest", "model.npz", in: directory)
        #expect(lost.failedInOneLine && lost.errors.contains("cairn repair model.npz"), "\(lost.errors)")
        #expect(try ToolRun("repair", "model.npz", in: directory).exitCode == 0)
        #expect(try ToolRun("digest", "model.npz", "--json", in: directory).output == digest)
    }

    @Test func filesOfOtherFormatsAreReadAsParityGivesThem() throws {
        let directory = try TemporaryDirectory()
        try SampleStates.run(at: directory.path("run"), steps: [1])
        let targets = [
            ("model.pt", "torch", []), ("model.npz", "npz", []), ("model.h5", "hdf5", []),
            ("model.safetensors", "safetensors", []), ("dcp", "dcp", ["--shards", "3"]),
            ("shards", "safetensors-sharded", ["--max-shard-size", "4KB"]),
        ]
        for (name, format, options) in targets {
            let convert = try ToolRun(["convert", "run@1", name, "--to", format] + options, in: directory)
            #expect(convert.exitCode == 0, "\(convert.errors)")
            let digest = try ToolRun("digest", name, "--json", in: directory).output
            let isFile = name.contains(".")
            let layout = isFile ? ["--data", "8"] : ["--layout", "files"]
            #expect(try ToolRun(["protect", name, "--parity", "2"] + layout, in: directory).exitCode == 0)
            #expect(try ToolRun("digest", name, "--json", in: directory).errors.isEmpty)
            let files = isFile ? [name] : try LocalStorage(root: directory.path(name)).list("").map { name + "/" + $0.key }
            let others = ["parity", "json", "metadata"]
            let victim = try #require(files.first { file in isFile || !others.contains { file.contains($0) } })
            if isFile {
                try flip(directory, victim, at: try bytes(directory, victim).count / 2)
            } else {
                try remove(directory, victim)
            }
            let read = try ToolRun("digest", name, "--json", in: directory)
            #expect(read.exitCode == 0 && read.output == digest, "\(name): \(read.errors)")
            #expect(read.errors.contains("repaired in memory: ") && read.errors.contains("run cairn repair \(name)"))
            // Converting takes what is rebuilt, and verifying sees the files as they are.
            #expect(try ToolRun("convert", name, "copy-\(name).safetensors", "--to", "safetensors", in: directory).exitCode == 0)
            #expect(try ToolRun("verify", name, "--deep", in: directory).exitCode == 1)
            #expect(try ToolRun("repair", name, in: directory).exitCode == 0)
            #expect(try ToolRun("digest", name, "--json", in: directory).errors.isEmpty)
        }
    }
}
