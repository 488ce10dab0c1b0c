import ArgumentParser
import Cairn
import CairnDigest

/// Times Cairn beside plain input and output and beside the `safetensors` package of Python, on one training state.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cairn-bench",
        abstract: "Times saves and loads of a training state beside plain I/O of the same bytes.",
        discussion: """
            Every round runs each operation once, in turn, so that a noisy machine disturbs all alike; medians and the
            medians of the ratios within a round are printed. Before each operation memory is touched and freed, because
            first-touch memory would drown everything else.
            """)

    @Option(help: "A folder on the disk to measure; it needs room for six states.")
    var folder: String
    @Option(help: "The state's size in millions of bytes.")
    var megabytes = 1600
    @Option(help: "How many rounds.")
    var rounds = 5
    @Option(help: "A Python with the safetensors and torch packages, to measure beside; see Scripts/bench.")
    var python: String?
    @Option(help: "The script that the Python runs.")
    var peer = "Scripts/lib/safetensors_peer.py"
    @Flag(help: "Measure loads and rewrites under other layouts instead, beside torch's.")
    var reshard = false
    @Flag(help: "Measure what snapshots cost training instead, beside asynchronous saves of others.")
    var snapshots = false
    @Flag(help: "Measure the ways to the disk and back instead: plain files and checkpoints, through the page cache and past it.")
    var paths = false
    @Flag(help: "Measure loads through renamed, selected and cast views instead, beside loads of the checkpoint.")
    var views = false
    @Flag(help: "Measure saves to a keeper and loads from it instead, beside memory and the disk.")
    var keeper = false
    @Flag(help: "Measure saves of a state of which one per cent has changed instead, beside saves of all of it.")
    var unchanged = false
    @Flag(help: "Measure parity instead, beside copies of memory, saves without it, and plain I/O.")
    var protection = false
    @Flag(help: "Measure conversions of PyTorch's checkpoints instead, beside a plain copy and beside PyTorch.")
    var convert = false
    @Option(
        parsing: .upToNextOption,
        help: "Measure how small and how fast the tensors of these checkpoints are compressed instead, in memory.")
    var compression: [String] = []
    @Option(
        parsing: .upToNextOption,
        help: "Measure saves of the weights of these checkpoints instead, repeated to the state's size, compressed and not.")
    var compressedSaves: [String] = []
    @Flag(help: "Read from the device instead of the page cache: files are dropped from it before each load.")
    var cold = false

    private static let bufferedRead = "plain read, four threads"
    private static let directRead = "plain read, four threads, O_DIRECT"

    func run() throws {
        if snapshots { return try SnapshotBench(folder: folder, rounds: rounds, python: python).run() }
        if convert {
            guard let python else { throw ValidationError("--convert needs --python") }
            let peer = try PeerProcess(
                python: python, script: "Scripts/lib/convert_peer.py", folder: folder, megabytes: megabytes)
            return try ConvertBench(folder: folder, rounds: rounds).run(peer: peer)
        }
        if !compression.isEmpty {
            let peer = try python.map {
                try PeerProcess(
                    python: $0, script: "Scripts/lib/compression_peer.py", folder: folder, megabytes: megabytes)
            }
            try CompressionBench(folder: folder, rounds: rounds).run(compression, peer: peer)
        }
        if !compressedSaves.isEmpty {
            try CompressionBench(folder: folder, rounds: rounds).runSaves(compressedSaves, megabytes: megabytes)
        }
        if !compression.isEmpty || !compressedSaves.isEmpty { return }
        let state = try BenchState.make(byteCount: megabytes * 1_000_000)
        if reshard {
            let peer = try python.map {
                try PeerProcess(
                    python: $0, script: "Scripts/lib/dcp_reshard_peer.py", folder: folder, megabytes: megabytes)
            }
            return try ReshardBench(folder: folder, rounds: rounds, cold: cold).run(state, peer: peer)
        }
        if unchanged { return try UnchangedBench(folder: folder, rounds: rounds).run(state) }
        if keeper {
            let peer = try python.map {
                try PeerProcess(python: $0, script: "Scripts/lib/load_peers.py", folder: folder, megabytes: megabytes)
            }
            return try KeeperBench(folder: folder, rounds: rounds).run(state, peer: peer)
        }
        if protection { return try ProtectionBench(folder: folder, rounds: rounds).run(state) }
        if views { return try ViewBench(folder: folder, rounds: rounds, cold: cold).run(state) }
        if paths { return try PathBench(folder: folder, rounds: rounds).run(state) }
        let table = Table()
        let plain = PlainFile(folder: folder)
        let hard: [(name: String, file: HardPlainFile)] = [
            ("plain write, two threads, early writeback + fsync", HardPlainFile(folder: folder, manner: .earlyWriteback)),
            ("plain write, two threads, O_DIRECT + fsync", HardPlainFile(folder: folder, manner: .direct)),
        ].filter { $0.file.isPossible }
        let hardReads = hard.map { (name: $0.file.manner == .direct ? Self.directRead : Self.bufferedRead, file: $0.file) }
        let store = CheckpointStore(path: folder + "/store")
        let peerProcess = try python.map { try PeerProcess(python: $0, script: peer, folder: folder, megabytes: megabytes) }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try table.time("plain write + fsync") { try plain.write(state) }
            for (name, file) in hard { try table.time(name) { try file.write(state) } }
            try table.time("cairn save") {
                var options = SaveOptions()
                options.replacing = true
                try store.save(state, step: 1, options: options)
            }
            if let peerProcess { try table.record("safetensors save_file + fsync", peerProcess.ask("save")) }
            let prefix = folder + "/store/step-00000001/"
            let files = try store.open(step: 1).manifest.files.map { prefix + $0.name }
            func prepare(_ paths: [String]) throws { try PageCache.prepare(paths, cold: cold) }
            try prepare([plain.path])
            try table.time("plain read") { try plain.read(state) }
            for (name, file) in hardReads {
                try prepare([file.path])
                try table.time(name) { try file.read() }
            }
            try prepare(files)
            try table.time("cairn load, verified") { _ = try store.load(step: 1) }
            if let peerProcess {
                try table.record("safetensors load_file, touched", peerProcess.ask(cold ? "load-cold" : "load"))
            }
            try prepare(files)
            try table.time("cairn load, mapped") {
                var options = LoadOptions()
                options.mapped = true
                _ = try store.load(step: 1, options: options)
            }
            try prepare(files)
            try table.time("cairn verify") {
                guard try store.open(step: 1).verify().isValid else { throw CairnError(.corrupted, "the bench's checkpoint") }
            }
            try prepare(files)
            try table.time("cairn digest (SHA-256)") { _ = try CheckpointDigest(of: store.open(step: 1)) }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: [
                ("cairn save", "plain write + fsync")
            ] + hard.map { ("cairn save", $0.name) } + [
                ("safetensors save_file + fsync", "plain write + fsync"),
                ("cairn load, verified", "plain read"), ("cairn load, verified", Self.bufferedRead),
                ("cairn load, verified", Self.directRead), ("safetensors load_file, touched", "plain read"),
                ("cairn verify", "plain read"), ("cairn digest (SHA-256)", "plain read"),
            ])
    }
}

/// A training state with the tensors of a GPT-2 in bf16, 32-bit master weights and two moments.
enum BenchState {
    static func make(byteCount: Int) throws -> TrainingState {
        let width = 768
        var shapes: [(String, [Int])] = []
        for layer in 0..<12 {
            shapes += [
                ("h.\(layer).attn.c_attn.weight", [width, 3 * width]), ("h.\(layer).attn.c_attn.bias", [3 * width]),
                ("h.\(layer).attn.c_proj.weight", [width, width]), ("h.\(layer).ln_1.weight", [width]),
                ("h.\(layer).mlp.c_fc.weight", [width, 4 * width]), ("h.\(layer).mlp.c_fc.bias", [4 * width]),
                ("h.\(layer).mlp.c_proj.weight", [4 * width, width]), ("h.\(layer).ln_2.weight", [width]),
            ]
        }
        let blocks = shapes.reduce(0) { $0 + $1.1.reduce(1, *) }
        // The embedding takes what is left: 14 bytes a parameter in all.
        let rows = max(1, (byteCount / 14 - blocks) / width)
        shapes.append(("wte.weight", [rows, width]))
        var state = TrainingState()
        var word: UInt64 = 1
        for (name, extents) in shapes {
            for (prefix, type) in [("model.", ScalarType.bf16), ("master.", .f32), ("exp_avg.", .f32), ("exp_avg_sq.", .f32)] {
                let tensor = try Tensor(type, Shape(extents)) { bytes in
                    bytes.withUnsafeMutableBytes { memory in
                        let words = memory.bindMemory(to: UInt64.self)
                        for index in words.indices {
                            word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                            // Below 2, as weights are: infinities and NaNs would be counted one by one where they are cast.
                            words[index] = word & 0xBFFF_BFFF_BFFF_BFFF
                        }
                        for index in words.count * 8..<memory.count { memory[index] = UInt8(truncatingIfNeeded: index) }
                    }
                }
                state.set(tensor, for: prefix + name)
            }
        }
        return state
    }
}
