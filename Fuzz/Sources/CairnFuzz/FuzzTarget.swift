import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor

/// What is fed with arbitrary bytes. Each either opens what it got and reads all of it, or throws; it never traps.
enum FuzzTarget: String, CaseIterable {
    /// A pickle, in a zip file of `torch.save` with two storages.
    case pickle
    /// Any file that PyTorch might have written: zip archives, legacy files, bare pickles.
    case torch
    case safetensors
    /// The `.metadata` of torch.distributed.checkpoint, beside files of zeros.
    case dcp
    /// The manifest of a checkpoint.
    case manifest

    /// Set once, before anything runs.
    nonisolated(unsafe) static var current = FuzzTarget.pickle

    /// Tensors up to this size are read.
    private static let mostBytes = 1 << 16

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
                try read(TorchReader(storage: storage, file: "file"))
            case .torch:
                try storage.publish(bytes, as: "file")
                try read(TorchReader(storage: storage, file: "file"))
            case .safetensors:
                try storage.publish(bytes, as: "file.safetensors")
                try read(SafeTensorsReader(storage: storage, file: "file.safetensors"))
            case .dcp:
                try storage.publish(bytes, as: ".metadata")
                for name in ["__0_0.distcp", "__1_0.distcp"] {
                    try storage.publish([UInt8](repeating: 0, count: 1 << 14), as: name)
                }
                try read(DistributedCheckpointReader(storage: storage, source: "memory"))
            case .manifest:
                try storage.publish(bytes, as: "step-00000001/manifest.json")
                let store = CheckpointStore(storage: storage, name: "memory")
                _ = try store.list()
                try read(store.open(step: 1))
            }
        } catch {
            // A refusal is what most inputs deserve; its text must be printable too.
            _ = "\(error)"
        }
    }

    private func read(_ reader: some CheckpointReader) throws {
        _ = reader.values.map { "\($0.value)" }
        for tensor in reader.tensors.prefix(64) where tensor.byteCount <= Self.mostBytes {
            do {
                _ = try reader.tensor(tensor.name)
            } catch {
                _ = "\(error)"
            }
        }
    }
}
