import Cairn
import Testing

/// Runs of `cairn-train` on many ranks.
@Suite(.serialized) struct ParallelRunTests {
    private static let model = [
        "run", "--text", TemporaryFolder.repository + "/Fixtures/data/kjv.txt", "--layers", "2", "--heads", "2",
        "--width", "16", "--context", "16", "--batch", "5", "--save-every", "10", "--schedule", "constant",
    ]

    private static func losses(_ folder: String) throws -> [Double] {
        let bytes = try LocalStorage(root: folder).readAll("losses.csv", limit: 1 << 20)
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").dropFirst().compactMap { line in
            line.split(separator: ",").last.flatMap { UInt64($0, radix: 16) }.map { Double(bitPattern: $0) }
        }
    }

    /// Each part of the run ends in a checkpoint from which the next one goes on, on other ranks.
    @Test(arguments: ["adamw", "muon"])
    func aRunGoesOnFromTheCheckpointOfAnyMesh(optimizer: String) throws {
        let folder = try TemporaryFolder()
        func run(_ name: String, _ parts: [[String]]) throws {
            for (index, part) in parts.enumerated() {
                var arguments = Self.model + ["--optimizer", optimizer, "--out", "\(folder.path)/\(name)"]
                arguments += ["--steps", "\(10 * (index + 1))"] + part
                if index > 0 { arguments.append("--resume") }
                #expect(try Child(arguments).wait() == 0, "\(name), part \(index)")
            }
        }
        try run("one", [[], [], [], [], []])
        try run(
            "many",
            [
                [], ["--mesh", "tp=2,dp=2", "--zero"], ["--mesh", "pp=2,tp=2", "--micro-batches", "2"],
                ["--ranks", "3", "--zero"], [],
            ])
        let one = try Self.losses(folder.path + "/one")
        let many = try Self.losses(folder.path + "/many")
        #expect(one.count == 50 && many.count == 50)
        for (first, second) in zip(one, many) { #expect(abs(first - second) < 1e-5 * first) }
        let state = try CheckpointStore(path: folder.path + "/one").load(step: 50)
        #expect(try CheckpointStore(path: folder.path + "/many").load(step: 50).names == state.names)
    }

    @Test func whatDoesNotFitTogetherIsRefused() throws {
        let folder = try TemporaryFolder()
        for arguments in [["--ranks", "3", "--mesh", "tp=2"], ["--zero"], ["--mesh", "tp=2", "--model", "mlp"]] {
            #expect(try Child(Self.model + ["--out", folder.path + "/run"] + arguments).wait() == 64)
        }
    }
}
