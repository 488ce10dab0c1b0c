import Cairn
import CairnDigest
import CairnInterop

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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
        table.print(byteCount: byteCount, ratios: [
            (Self.toSafetensors, Self.copy), ("torch.load + save_file + fsync", Self.copy),
            ("torch.load mapped + save_file + fsync", Self.copy), (Self.fromShards, Self.copy),
            ("dcp.load + save_file + fsync", Self.copy), ("cairn safetensors to .pt", Self.copy),
            (Self.digest, "torch.load + SHA-256"),
        ])
    }
}

/// A copy of a file as `cp` and `sync` make it: blocks of 8 MiB by `read` and `write`, one thread, one `fsync`.
private enum FileCopy {
    private static let blockByteCount = 8 << 20

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
