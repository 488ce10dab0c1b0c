import CairnBase
import CairnCheckpoint
import CairnHDF5
import CairnInterop
import CairnKeeper
import CairnStorage
import CairnTensor

/// What is fed with arbitrary bytes. Each either opens what it got and reads all of it, or throws; it never traps.
enum FuzzTarget: String, CaseIterable {
    /// A pickle, in a zip file of `torch.save` with two storages.
    case pickle
    /// A zip archive, whatever is in it.
    case zip
    /// Any file that PyTorch might have written: zip archives, legacy files, bare pickles.
    case torch
    case safetensors
    /// A `.npy` or a `.npz` file.
    case numpy
    /// The `.metadata` of torch.distributed.checkpoint, beside the files of four ranks.
    case dcp
    /// The manifest of a checkpoint, without the seal at its end: behind one that is wrong nothing else would be tried.
    case manifest
    /// A rank file of a checkpoint that lost its manifest.
    case rankfile
    /// An HDF5 file. HDF5 itself, a C library, is not followed by the fuzzer.
    case hdf5

    /// The index of a parity file, without what is around it, beside files that are damaged; and a parity file as it is.
    case parity
    /// A delta: the list of its tensors, a zero, its changes; and the changes of a chunk.
    case delta
    /// What a keeper and its trainers send each other.
    case keeper
    /// What members of a group of keepers send each other.
    case group

    /// Set once, before anything runs.
    nonisolated(unsafe) static var current = FuzzTarget.pickle

    func run(_ bytes: [UInt8]) {
        let storage = MemoryStorage()
        do {
            switch self {
            case .pickle:
                let archive = PlainArchive.bytes([
                    ("archive/data.pkl", bytes), ("archive/data/0", [UInt8](repeating: 1, count: 64)),
                    ("archive/data/1", [UInt8](repeating: 2, count: 4096)),
                ])
                try storage.publish(archive, as: "file")
                try FuzzReading.all(of: TorchReader(storage: storage, file: "file"))
            case .zip:
                try storage.publish(bytes, as: "file")
                try FuzzReading.all(of: ZipArchive(storage.open("file")))
            case .torch:
                try storage.publish(bytes, as: "file")
                try FuzzReading.all(of: TorchReader(storage: storage, file: "file"))
            case .safetensors:
                try storage.publish(bytes, as: "file.safetensors")
                try FuzzReading.all(of: SafeTensorsReader(storage: storage, file: "file.safetensors"))
            case .numpy:
                try storage.publish(bytes, as: "file")
                try FuzzReading.all(of: NumPyReader(storage: storage, file: "file"))
            case .dcp:
                try storage.publish(bytes, as: ".metadata")
                let beside = RepeatedStorage(
                    storage, others: Self.itemFiles, repeating: Self.item, byteCount: 1 << 20)
                try FuzzReading.all(of: DistributedCheckpointReader(storage: beside, source: "memory"))
            case .manifest:
                let seal = ManifestSeal.text(CRC32C.checksum(bytes.span.bytes))
                try storage.publish(bytes + seal.utf8, as: "step-00000001/manifest.json")
                let store = CheckpointStore(storage: storage, name: "memory")
                _ = try store.list()
                try FuzzReading.all(of: store.open(step: 1))
            case .rankfile:
                try storage.publish(bytes, as: "step-00000001/rank-00000.safetensors")
                let store = CheckpointStore(storage: storage, name: "memory")
                try store.rebuildManifest(step: 1)
                try FuzzReading.all(of: store.open(step: 1))
            case .hdf5:
                try storage.publish(bytes, as: "file.h5")
                try FuzzReading.all(of: HDF5Reader(storage: storage, file: "file.h5"))
            case .parity: try FuzzProtection.run(bytes)
            case .delta: try FuzzDelta.run(bytes)
            case .group: try FuzzGroup.run(bytes)
            case .keeper:
                if let request = try? KeeperRequest(bytes) { _ = request.message }
                if let reply = try? KeeperReply(bytes) { _ = reply.message }
            }
        } catch {
            // A refusal is what most inputs deserve; its text must be printable too.
            _ = "\(error)"
        }
    }

    /// A value as torch.distributed.checkpoint stores it.
    private static let item = PlainArchive.bytes([("archive/data.pkl", Array("(dVa\nI1\nsVb\nVtext\ns.".utf8))])
    private static let itemFiles = Set((0..<4).flatMap { rank in (0..<4).map { "__\(rank)_\($0).distcp" } })
}
