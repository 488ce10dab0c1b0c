import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnHDF5
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// A checkpoint that some reader opens: its files, and how. The suites ask no reader for its type.
struct ReaderSample: Sendable, CustomTestStringConvertible {
    let name: String
    /// The files, each time anew; empty for what has none.
    let files: @Sendable () throws -> MemoryStorage
    let open: @Sendable (any Storage) throws -> any CheckpointReader
    /// What is covered by checksums; `nil` for views, whose files are those of another sample.
    var checksums: WritableFormat.Checksums?
    /// Whether the reader says in which pieces its tensors are stored.
    var knowsPieces = true

    var testDescription: String { name }

    /// How often something is tried that reads all of so many bytes, so that no sample takes much longer than the others.
    static func trials(atMost count: Int, of files: MemoryStorage) throws -> Int {
        let byteCount = try files.list("").reduce(0) { $0 + $1.byteCount }
        return max(6, min(count, 1_500_000 / max(1, byteCount)))
    }

    func opened() throws -> any CheckpointReader { try open(files()) }
}

extension ReaderSample {
    /// One of each format that Cairn writes, then files that other software wrote.
    static let files: [ReaderSample] = written + fixtures

    static let all: [ReaderSample] = files + views

    private static let written: [ReaderSample] = WritableFormat.all.map { format in
        ReaderSample(
            name: format.name, files: { try format.files(of: format.randomState(seed: 11)) }, open: format.open,
            checksums: format.checksums, knowsPieces: format.knowsPieces)
    }

    private static let fixtures: [ReaderSample] = [
        store("cairn, three ranks", step: 400), store("cairn, compressed", step: 800),
        store("cairn, exponents apart", step: 2000),
        store("cairn, placed by layouts", step: 1600),
        safetensors("safetensors, an index", "safetensors/hf_sharded", "model.safetensors.index.json", isIndex: true),
        safetensors("safetensors, every type", "safetensors/dtypes", "dtypes.safetensors"),
        safetensors("safetensors, a rank's file alone", "cairn/v1/step-00000800", "rank-00000.safetensors", .elements),
        torch("torch, views", "views/views.pt", .elements), torch("torch, every type", "dtypes/dtypes.pt", .elements),
        torch("torch, described tensors", "variants/described.pt", .elements),
        torch("torch, legacy", "variants/legacy_p2.pt", .none),
        torch("torch, big-endian", "variants/big_endian.pt", .elements),
        torch("torch, bare pickle", "variants/plain.pkl", .none),
        torch("torch, scripted", "other_containers/scripted.pt", .elements),
        torch("torch, deflated", "other_containers/rezipped_deflate.pt", .elements),
        distributed("dcp, two dimensions", "dcp/w2_dtensor_zoo/checkpoint", .elements),
        distributed("dcp, each rank's metadata", "dcp/w2_options/each_rank", .elements),
        distributed("dcp, safetensors items", "dcp/w2_options/safetensors", .none),
        distributed("dcp, zstd", "dcp/w2_options/zstd", .elements),
        distributed("dcp, Hugging Face", "dcp/w2_hf/checkpoint", .none),
        distributed("megatron", "megatron/torch_dist_tp2/checkpoint", .elements),
        deepspeed("deepspeed, no ZeRO", "z0_w2_fp32/checkpoint/global_step2"),
        deepspeed("deepspeed, stage 1 in a pipeline", "pp2_dp1_z1_bf16/checkpoint/global_step2"),
        deepspeed("deepspeed, stage 2", "z2_w4_bf16/checkpoint/global_step2"),
        deepspeed("deepspeed, stage 3", "z3_w2_bf16/checkpoint/global_step2"),
        deepspeed("deepspeed, universal", "z3_w2_bf16/universal"),
        fixture("hdf5", "hdf5/h5py_plain", .some, only: "default.h5") { try HDF5Reader(storage: $0, file: "default.h5") },
        fixture("hdf5, newest form", "hdf5/h5py_plain", .some, only: "latest.h5") {
            try HDF5Reader(storage: $0, file: "latest.h5")
        },
        fixture("keras, model", "hdf5/keras", .everything, only: "model_bf16.keras") {
            try KerasReader(storage: $0, file: "model_bf16.keras")
        },
        fixture("keras, sharded weights", "hdf5/keras", .none, only: "sharded") {
            try KerasReader(storage: $0, file: "sharded.weights.json")
        },
        fixture("npz, compressed", "numpy", .elements, only: "compressed.npz") {
            try NumPyReader(storage: $0, file: "compressed.npz")
        },
        fixture("npy, column-major", "numpy", .none, only: "fortran.npy") {
            try NumPyReader(storage: $0, file: "fortran.npy")
        },
    ]

    private static func safetensors(
        _ name: String, _ path: String, _ file: String, _ checksums: WritableFormat.Checksums = .none, isIndex: Bool = false
    ) -> ReaderSample {
        var sample = fixture(name, path, checksums, only: isIndex ? "" : file) {
            try isIndex ? SafeTensorsReader(storage: $0, index: file) : SafeTensorsReader(storage: $0, file: file)
        }
        sample.knowsPieces = false
        return sample
    }

    private static func store(_ name: String, step: Int) -> ReaderSample {
        fixture(name, "cairn/v1/" + StepName.prefix(step).dropLast(), .everything, below: StepName.prefix(step)) {
            try CheckpointStore(storage: $0, name: "store").open(step: step)
        }
    }

    private static func torch(_ name: String, _ path: String, _ checksums: WritableFormat.Checksums) -> ReaderSample {
        let parts = path.split(separator: "/").map(String.init)
        return fixture(name, "torch/" + parts[0], checksums, only: parts[1]) { try TorchReader(storage: $0, file: parts[1]) }
    }

    private static func distributed(_ name: String, _ path: String, _ checksums: WritableFormat.Checksums) -> ReaderSample {
        fixture(name, path, checksums) { try DistributedCheckpointReader(storage: $0, source: "memory") }
    }

    private static func deepspeed(_ name: String, _ path: String) -> ReaderSample {
        var sample = fixture(name, "deepspeed/" + path, .elements) {
            try DeepSpeedReader(storage: $0, prefix: "", source: "memory")
        }
        sample.knowsPieces = false
        return sample
    }

    /// The files of a folder of `Fixtures`, or those whose names begin with something.
    private static func fixture(
        _ name: String, _ path: String, _ checksums: WritableFormat.Checksums, only beginning: String = "",
        below prefix: String = "", _ open: @escaping @Sendable (any Storage) throws -> any CheckpointReader
    ) -> ReaderSample {
        ReaderSample(
            name: name,
            files: {
                let storage = MemoryStorage(), folder = LocalStorage(root: Repository.fixture(path))
                for entry in try folder.list(beginning) where !entry.key.hasSuffix(".md") && !entry.key.hasPrefix("truth/") {
                    try storage.publish(folder.readAll(entry.key), as: prefix + entry.key)
                }
                return storage
            }, open: open, checksums: checksums)
    }
}
