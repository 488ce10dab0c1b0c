import ArgumentParser
import CairnBase
import CairnLayout
import CairnReshard

/// `cairn simulate`
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Say what checkpoints or failures would cost a job of any size.",
        discussion: """
            Without a subcommand it is about checkpoints.

            Examples:
              cairn simulate --model llama-405b --mesh tp=8,pp=16,dp=128 --zero --json
              cairn simulate failures --ranks 16384 --host-rate 1e-4 --memory 0.5,8,90 --parity 6+2 --remote 20,600,900
            """,
        subcommands: [SimulateCheckpointsCommand.self, SimulateFailuresCommand.self],
        defaultSubcommand: SimulateCheckpointsCommand.self)
}

/// `cairn simulate checkpoints`
struct SimulateCheckpointsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoints", abstract: "Say what a model's checkpoints would cost on a mesh of any size.",
        discussion: """
            Lays out the true shapes of a published model with Adam (BF16 weights, F32 masters, two F32 moments) on the \
            ranks of a mesh, and really computes the manifest, one rank's plan of a save, all ranks' shares and, with \
            --to-mesh, plans of a load on another mesh. No byte of any tensor exists.

            Of the axes tp shards weights, pp layers, ep experts, and dp replicates; --zero cuts masters and moments \
            over dp.

            Example:
              cairn simulate --model llama-405b --mesh tp=8,pp=16,dp=128 --zero --to-mesh tp=16,pp=8,dp=64 --json
            """)

    @Option(help: ArgumentHelp("One of: \(ModelShapes.names.joined(separator: ", ")).", valueName: "name"))
    var model: String

    @Option(help: ArgumentHelp("The ranks that save.", valueName: "axes"))
    var mesh: DeviceMeshArgument

    @Flag(help: "Cut the optimizer's state over the axis dp (ZeRO stage 1).")
    var zero = false

    @Option(help: ArgumentHelp("The ranks that load.", valueName: "axes"))
    var toMesh: DeviceMeshArgument?

    @Option(help: ArgumentHelp("How many of the loading ranks to plan, evenly spread.", valueName: "count"))
    var sample = 64

    @Option(help: ArgumentHelp("What the storage takes in a second from all ranks together.", valueName: "size"))
    var storageBandwidth = ByteCountArgument(byteCount: 100_000_000_000)

    @Option(help: ArgumentHelp("What one rank reads or writes in a second.", valueName: "size"))
    var rankBandwidth = ByteCountArgument(byteCount: 1_000_000_000)

    @Option(help: ArgumentHelp("What opening a file takes, in milliseconds.", valueName: "time"))
    var fileMilliseconds = 5.0

    @Flag(help: "Print one JSON document instead of text for people (schema cairn-simulate/1).")
    var json = false

    /// What PyTorch's distributed checkpoint needs in its metadata for each shard of each tensor: measured by
    /// Scripts/lib/dcp_metadata.py.
    private static let listedShardByteCount = 143.5

    func validate() throws {
        guard sample > 0 else { throw ValidationError("--sample must be at least 1 (got \(sample))") }
    }

    func run() throws {
        let shapes = try ModelShapes(named: model)
        let state = try shapes.trainingState(on: mesh.mesh, zero: zero)
        let save = try SaveSimulation(state)
        var read: ReadSimulation?
        if let toMesh {
            let target = try shapes.trainingState(on: toMesh.mesh, zero: zero)
            read = try ReadSimulation(save.index, tensors: target, sampleCount: sample)
        }
        try json ? printDocument(shapes, save, read) : printText(shapes, save, read)
    }

    private func saveSeconds(_ save: SaveSimulation) -> Double {
        max(
            Double(save.bytes.maximum) / Double(rankBandwidth.byteCount),
            Double(save.bytes.total) / Double(storageBandwidth.byteCount)) + fileMilliseconds / 1000 + save.planSeconds
    }

    /// The sample stands for all ranks.
    private func loadSeconds(_ read: ReadSimulation) -> Double {
        max(
            Double(read.read.maximum) / Double(rankBandwidth.byteCount),
            read.read.mean * Double(read.rankCount) / Double(storageBandwidth.byteCount))
            + Double(read.files.maximum) * fileMilliseconds / 1000 + read.planSeconds
    }

    private func listedByteCount(_ save: SaveSimulation) -> Int {
        Int(Double(save.shardCount) * Self.listedShardByteCount)
    }

    private func printText(_ shapes: ModelShapes, _ save: SaveSimulation, _ read: ReadSimulation?) throws {
        func bytes(_ count: Double) -> String { ByteCountText.describe(Int(count)) }
        func spread(_ distribution: Distribution) -> String {
            "\(bytes(Double(distribution.minimum))) to \(bytes(Double(distribution.maximum))), "
                + "mean \(bytes(distribution.mean))"
        }
        func counts(_ distribution: Distribution) -> String {
            "\(distribution.minimum) to \(distribution.maximum), mean \(NumberText.fixed(distribution.mean, digits: 1))"
        }
        var lines = [
            "\(shapes.name) (\(shapes.origin)): \(NumberText.grouped(shapes.parameterCount)) parameters",
            "save    mesh \(mesh.mesh), \(NumberText.grouped(save.rankCount)) ranks\(zero ? ", ZeRO-1" : ""): "
                + "\(NumberText.grouped(save.tensorCount)) tensors in \(NumberText.grouped(save.layoutCount)) layouts, "
                + bytes(Double(save.bytes.total)),
            "  manifest         \(ByteCountText.describe(save.manifestByteCount)), "
                + "written in \(NumberText.fixed(save.manifestSeconds, digits: 3)) s",
            "  listed by shard  \(ByteCountText.describe(listedByteCount(save))) "
                + "(\(NumberText.grouped(save.shardCount)) shards, as PyTorch's distributed checkpoint lists them)",
            "  plan of a rank   \(NumberText.fixed(save.planSeconds, digits: 3)) s in one thread, nothing exchanged",
            "  bytes a rank     \(spread(save.bytes)); the largest "
                + "\(NumberText.fixed(save.bytes.imbalance, digits: 3)) times the mean",
            "  pieces a rank    \(counts(save.pieces)); one file",
            "  time             \(NumberText.fixed(saveSeconds(save), digits: 1)) s",
        ]
        if let read, let toMesh {
            lines += [
                "load    mesh \(toMesh.mesh), \(NumberText.grouped(read.rankCount)) ranks, "
                    + "\(NumberText.grouped(read.plannedRankCount)) of them planned",
                "  plan of a rank   \(NumberText.fixed(read.planSeconds, digits: 3)) s in one thread, at most",
                "  needed a rank    \(spread(read.needed))",
                "  read a rank      \(spread(read.read)); "
                    + "\(NumberText.fixed(read.amplification, digits: 3)) bytes for one needed, in chunks of 1 MiB",
                "  files a rank     \(counts(read.files))",
                "  pieces a rank    \(counts(read.pieces))",
                "  time             \(NumberText.fixed(loadSeconds(read), digits: 1)) s",
            ]
        }
        for line in lines { try StandardOutput.line(line) }
    }

    private func printDocument(_ shapes: ModelShapes, _ save: SaveSimulation, _ read: ReadSimulation?) throws {
        func document(_ distribution: Distribution) -> JSONValue {
            .object([
                "min": .count(distribution.minimum), "mean": .number(distribution.mean),
                "max": .count(distribution.maximum),
            ])
        }
        var loaded = JSONValue.null
        if let read, let toMesh {
            loaded = .object([
                "mesh": .string("\(toMesh.mesh)"), "ranks": .count(read.rankCount),
                "planned_ranks": .count(read.plannedRankCount), "plan_seconds": .number(read.planSeconds),
                "needed_bytes": document(read.needed), "read_bytes": document(read.read),
                "amplification": .number(read.amplification), "files": document(read.files),
                "pieces": document(read.pieces), "seconds": .number(loadSeconds(read)),
            ])
        }
        try ResultDocument.print(
            schema: "cairn-simulate/1",
            [
                "model": .string(shapes.name), "origin": .string(shapes.origin),
                "parameters": .count(shapes.parameterCount), "zero": .bool(zero),
                "save": .object([
                    "mesh": .string("\(mesh.mesh)"), "ranks": .count(save.rankCount),
                    "tensors": .count(save.tensorCount), "layouts": .count(save.layoutCount),
                    "manifest_bytes": .count(save.manifestByteCount),
                    "manifest_seconds": .number(save.manifestSeconds), "shards": .count(save.shardCount),
                    "listed_bytes": .count(listedByteCount(save)), "plan_seconds": .number(save.planSeconds),
                    "total_bytes": .count(save.bytes.total), "bytes": document(save.bytes),
                    "imbalance": .number(save.bytes.imbalance), "pieces": document(save.pieces),
                    "seconds": .number(saveSeconds(save)),
                ]),
                "load": loaded,
            ])
    }
}
