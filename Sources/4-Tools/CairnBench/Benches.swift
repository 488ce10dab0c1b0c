import Cairn
import CairnCheckpoint
import CairnStorage
import CairnDigest
import CairnInterop
import CairnReshard

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Saves and loads of one state by each way to the disk, beside plain files that are written as hard as can be. A load is
/// of files that are not in the page cache, except where its row says so.
struct PathBench {
    let folder: String
    let rounds: Int

    private static let ways: [(name: String, writing: LocalWriting, reading: LocalReading)] = [
        ("buffered", .buffered, .buffered), ("direct", .direct, .direct), ("automatic", .automatic, .automatic),
    ]

    func run(_ state: TrainingState) throws {
        let table = Table()
        let plain = [
            ("plain write, early writeback + fsync", HardPlainFile(folder: folder, manner: .earlyWriteback)),
            ("plain write, direct + fsync", HardPlainFile(folder: folder, manner: .direct)),
        ].filter { $0.1.isPossible }
        let stores = Self.ways.map { way in
            let root = folder + "/" + way.name
            let storage = LocalStorage(root: root, writing: way.writing, reading: way.reading)
            return (name: way.name, root: root, store: CheckpointStore(storage: storage, name: root))
        }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            for (name, file) in plain { try table.time(name) { try file.write(state) } }
            for (name, _, store) in stores {
                var options = SaveOptions()
                options.replacing = true
                try table.time("cairn save, " + name) { try store.save(state, step: 1, options: options) }
            }
            for (name, root, store) in stores {
                let files = try store.open(step: 1).manifest.files.map { root + "/step-00000001/" + $0.name }
                for file in files { try PageCache.drop(file) }
                try table.time("cairn load, " + name) { _ = try store.load(step: 1) }
                if name == "buffered" { try table.time("cairn load, cached") { _ = try store.load(step: 1) } }
            }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: stores.flatMap { store in plain.map { ("cairn save, " + store.name, $0.0) } }
                + ["direct", "automatic", "cached"].map { ("cairn load, " + $0, "cairn load, buffered") })
    }
}

/// Loads and rewrites a state of four ranks as one of two, beside a plain read of the same bytes.
struct ReshardBench {
    let folder: String
    let rounds: Int
    let cold: Bool

    private static let read = "plain read"

    func run(_ state: TrainingState, peer: PeerProcess?) throws {
        let table = Table()
        let plain = PlainFile(folder: folder)
        try plain.write(state)
        let store = CheckpointStore(path: folder + "/store")
        var replacing = SaveOptions()
        replacing.replacing = true
        try store.save(state, step: 1, options: replacing)
        let four = try tensors(of: state, ranks: 4), two = try tensors(of: state, ranks: 2)
        var options = Resharder.Options()
        options.save = replacing
        try Resharder(reading: store.open(step: 1), tensors: four).write(to: store, step: 4, options: options)
        if let peer { _ = try peer.ask("save") }
        let files = try store.open(step: 4).manifest.files.map { folder + "/store/step-00000004/" + $0.name }
        func prepare(_ paths: [String]) throws { try PageCache.prepare(paths, cold: cold) }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try prepare([plain.path])
            try table.time(Self.read) { try plain.read(state) }
            try prepare(files)
            try table.time("cairn load 4 ranks as 2") {
                let reader = try store.open(step: 4)
                let parts = try (0..<2).map { try ShardedState(reading: reader, rank: $0, tensors: two) }
                guard parts.allSatisfy({ $0.local("model.wte.weight") != nil }) else {
                    throw CairnError(.incomplete, "the bench's checkpoint")
                }
            }
            if let peer { try table.record("torch DCP load 4 ranks as 2", peer.ask("load")) }
            try prepare([plain.path])
            try table.time("plain read + plain write + fsync") {
                try plain.read(state)
                try plain.write(state)
            }
            try prepare(files)
            try table.time("cairn reshard 4 ranks to 2") {
                try Resharder(reading: store.open(step: 4), tensors: two).write(to: store, step: 2, options: options)
            }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: [
                ("cairn load 4 ranks as 2", Self.read), ("torch DCP load 4 ranks as 2", Self.read),
                ("cairn reshard 4 ranks to 2", "plain read + plain write + fsync"),
            ])
    }

    /// Every tensor in chunks of its first dimension, as fully sharded training lays it out.
    private func tensors(of state: TrainingState, ranks: Int) throws -> [PlacedTensor] {
        let mesh = try DeviceMesh(["dp": ranks])
        return try state.tensors.map { name, tensor in
            PlacedTensor(
                name: name, scalarType: tensor.scalarType, shape: tensor.shape,
                layout: try Layout(mesh, ["dp": .shard(0, .chunked)]))
        }
    }
}

/// Converts what PyTorch wrote to safetensors and back, beside a plain copy of the bytes and beside PyTorch itself.
struct ConvertBench {
    let folder: String
    let rounds: Int

    private static let copy = "plain copy + fsync"
    private static let toSafetensors = "cairn .pt to safetensors"
    private static let fromShards = "cairn DCP to safetensors"
    private static let digest = "cairn digest .pt"

    func run(peer: PeerProcess) throws {
        let source = folder + "/peer.pt", shards = folder + "/peer_dcp"
        Table.note("PyTorch writes the state")
        _ = try peer.ask("write")
        let table = Table()
        let out = folder + "/converted.safetensors"
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try PageCache.prepare([source], cold: false)
            try table.time(Self.copy) { try FileCopy.copy(source, to: folder + "/copy.pt") }
            try table.time(Self.toSafetensors) {
                _ = try copyCheckpoint(
                    from: TorchReader(path: source), to: SafeTensorsWriter(path: out, replaces: true))
            }
            try table.record("torch.load + save_file + fsync", peer.ask("torch"))
            try table.record("torch.load mapped + save_file + fsync", peer.ask("torch-mapped"))
            let shardFiles = try LocalStorage(root: shards).list("").map { shards + "/" + $0.key }
            try PageCache.prepare(shardFiles, cold: false)
            try table.time(Self.fromShards) {
                _ = try copyCheckpoint(
                    from: DistributedCheckpointReader(path: shards), to: SafeTensorsWriter(path: out, replaces: true))
            }
            try table.record("dcp.load + save_file + fsync", peer.ask("dcp"))
            try PageCache.prepare([out], cold: false)
            try table.time("cairn safetensors to .pt") {
                _ = try copyCheckpoint(
                    from: SafeTensorsReader(path: out), to: TorchWriter(path: folder + "/converted.pt", replaces: true))
            }
            try table.time(Self.digest) { _ = try CheckpointDigest(of: TorchReader(path: source)) }
            try table.record("torch.load + SHA-256", peer.ask("digest"))
        }
        let byteCount = try TorchReader(path: source).tensors.reduce(0) { $0 + $1.byteCount }
        table.print(
            byteCount: byteCount,
            ratios: [
                (Self.toSafetensors, Self.copy), ("torch.load + save_file + fsync", Self.copy),
                ("torch.load mapped + save_file + fsync", Self.copy), (Self.fromShards, Self.copy),
                ("dcp.load + save_file + fsync", Self.copy), ("cairn safetensors to .pt", Self.copy),
                (Self.digest, "torch.load + SHA-256"),
            ])
    }
}

/// A copy of a file as `cp` and `sync` make it: blocks of 8 MiB by `read` and `write`, one thread, one `fsync`.
private enum FileCopy {
    private static let blockByteCount = PlainFile.blockByteCount

    static func copy(_ source: String, to target: String) throws {
        unlink(target)
        let input = open(source, O_RDONLY)
        guard input >= 0 else { throw CairnError(.inputOutput, "the file cannot be opened", .init(file: source)) }
        defer { close(input) }
        let output = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        guard output >= 0 else { throw CairnError(.inputOutput, "the file cannot be made", .init(file: target)) }
        defer { close(output) }
        let block = UnsafeMutableRawPointer.allocate(byteCount: blockByteCount, alignment: 4096)
        defer { block.deallocate() }
        while true {
            let count = read(input, block, blockByteCount)
            guard count >= 0 else { throw CairnError(.inputOutput, "a read failed", .init(file: source)) }
            if count == 0 { break }
            guard write(output, block, count) == count else {
                throw CairnError(.inputOutput, "a write failed", .init(file: target))
            }
        }
        guard fsync(output) == 0 else { throw CairnError(.inputOutput, "fsync failed", .init(file: target)) }
    }
}
