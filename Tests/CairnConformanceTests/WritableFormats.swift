import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnHDF5
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// A format that Cairn writes: how, and what it promises to hold. The suites ask no format for its name.
struct WritableFormat: Sendable, CustomTestStringConvertible {
    /// Which parts of a file a checksum covers.
    enum Checksums: Sendable {
        /// All that says what is in the checkpoint.
        case everything
        /// The elements of tensors.
        case elements
        /// The elements of some tensors.
        case some
        case none
    }

    /// As the tool calls it.
    let name: String
    /// A writer into an empty storage, or over what is there.
    let makeWriter: @Sendable (any Storage, _ replaces: Bool) throws -> any CheckpointWriter
    /// Opens what the writer left.
    let open: @Sendable (any Storage) throws -> any CheckpointReader

    /// The types that come back.
    var scalarTypes = Set(ScalarType.allCases)
    var checksums = Checksums.none
    /// Whether its reader says in which pieces tensors are stored.
    var knowsPieces = true
    /// Whether a checkpoint is replaced as a whole; else the old one is deleted before the new one is there.
    var replacesAtOnce = true
    /// Whether how tensors and values are nested comes back.
    var keepsNesting = false
    /// What a tensor of a test is called in this format.
    var tensorName: @Sendable (String) -> String = { $0 }
    /// Whether files are named after tensors, so that a disk's longest name is a tensor's.
    var namesFiles = false
    /// The odd names (``OddNames``) that it refuses.
    var refusedNames: Set<String> = []
    /// How many tensors it holds at most.
    var greatestTensorCount = Int.max
    /// Whether tied tensors come back tied.
    var keepsTies = true
    /// What becomes of the sample values (``SampleValues``) that do not come back as they are.
    var valueFates: [String: ValueFate] = [:]
    /// The values that its files have besides.
    var addedValues: Set<String> = []
    /// Whether names that differ only in how an accent is encoded lie beside each other.
    var tellsEncodings = true
    /// What `begin` says of a state all of which comes back.
    var notes: @Sendable (_ tensors: [TensorDescription], _ values: [NamedValue]) -> [String] = { _, _ in [] }

    var testDescription: String { name }

    /// Opens what the writer left, without what the format adds.
    func openWithoutAdditions(_ storage: any Storage) throws -> any CheckpointReader {
        let reader = try open(storage)
        let added = addedValues
        return added.isEmpty ? reader : SelectedReader(reader) { !added.contains($0) }
    }
}

extension WritableFormat {
    static let all: [WritableFormat] = [
        cairn, compressedCairn, safetensors, shardedSafetensors, torch, distributed, distributedSafetensors, universal, hdf5,
        kerasWeights,
        npz, npy,
    ]

    private static let safetensorsTypes = Set(ScalarType.allCases.filter(\.isSafetensorsType))
    /// What safetensors keeps for itself.
    private static let reservedNames: Set<String> = ["__metadata__"]
    private static let torchTypes = Set(ScalarType.allCases).subtracting([.f6e2m3, .f6e3m2])

    static let cairn = cairn("cairn", .none)
    static let compressedCairn = cairn("cairn, compressed", .fast)

    private static func cairn(_ name: String, _ compression: Compression) -> WritableFormat {
        WritableFormat(
            name: name,
            makeWriter: { storage, replaces in
                // Time and id are the same on every run, and others in a save that replaces.
                var generator = SeededGenerator(seed: replaces ? 2 : 1)
                var options = SaveOptions(compression: compression, replacing: replaces)
                (options.time, options.saveID) = (1, SaveID(using: &generator))
                (options.chunkByteCount, options.concurrency) = (4096, 1)
                return try CairnWriter(store: CheckpointStore(storage: storage, name: "store"), step: 7, options: options)
            },
            open: { try CheckpointStore(storage: $0, name: "store").open(step: 7) },
            scalarTypes: safetensorsTypes, checksums: .everything, refusedNames: reservedNames)
    }

    static let safetensors = WritableFormat(
        name: "safetensors",
        makeWriter: { SafeTensorsWriter(storage: $0, key: "model.safetensors", replaces: $1) },
        open: { try SafeTensorsReader(storage: $0, file: "model.safetensors") },
        scalarTypes: safetensorsTypes, knowsPieces: false, refusedNames: reservedNames, notes: textNotes)

    static let shardedSafetensors = WritableFormat(
        name: "safetensors-sharded",
        makeWriter: {
            SafeTensorsWriter(storage: $0, key: "model.safetensors", maximumShardByteCount: 40, replaces: $1)
        },
        open: { storage in
            // One file where all fits into it, as the directory's reader decides.
            let isIndexed = try storage.list("model.safetensors.index.json").count == 1
            return isIndexed
                ? try SafeTensorsReader(storage: storage, index: "model.safetensors.index.json")
                : try SafeTensorsReader(storage: storage, file: "model.safetensors")
        },
        scalarTypes: safetensorsTypes, knowsPieces: false, replacesAtOnce: false, refusedNames: reservedNames, notes: textNotes)

    static let torch = WritableFormat(
        name: "torch",
        makeWriter: { TorchWriter(storage: $0, key: "model.pt", replaces: $1) },
        open: { try TorchReader(storage: $0, file: "model.pt") },
        scalarTypes: torchTypes, checksums: .elements, keepsNesting: true, valueFates: oneKindOfInteger)

    static let distributed = WritableFormat(
        name: "dcp",
        makeWriter: { DistributedCheckpointWriter(storage: $0, fileCount: 3, replaces: $1) },
        open: { try DistributedCheckpointReader(storage: $0, source: "memory") },
        scalarTypes: torchTypes, checksums: .elements, replacesAtOnce: false, keepsNesting: true, valueFates: oneKindOfInteger)

    static let distributedSafetensors = WritableFormat(
        name: "dcp-safetensors",
        makeWriter: { ShardedSafeTensorsWriter(storage: $0, fileCount: 2, replaces: $1) },
        open: { try DistributedCheckpointReader(storage: $0, source: "memory") },
        scalarTypes: safetensorsTypes, replacesAtOnce: false, refusedNames: reservedNames, notes: textNotes)

    static let universal = WritableFormat(
        name: "deepspeed-universal",
        makeWriter: { DeepSpeedUniversalWriter(storage: $0, step: 7, replaces: $1) },
        open: { storage in
            let folder = String(decoding: try storage.readAll("latest_universal"), as: UTF8.self)
            return try DeepSpeedReader(storage: storage, prefix: folder + "/", source: "memory")
        },
        scalarTypes: torchTypes, checksums: .elements, knowsPieces: false, replacesAtOnce: false,
        tensorName: { $0 + ".fp32" },
        namesFiles: true, refusedNames: ["", ".", "..", "../up", "/absolute", "a//b", "a/", "nul\u{0}inside"],
        valueFates: oneKindOfInteger,
        addedValues: [
            "data_sampler", "dp_world_size", "ds_config", "ds_version", "frozen_param_fragments", "frozen_param_shapes",
            "global_samples", "global_steps", "lr_scheduler", "mp_world_size", "optimizer", "param_groups", "random_ltd",
            "shared_params", "skipped_steps",
        ], tellsEncodings: false,
        notes: { tensors, _ in
            let tied = tensors.filter { $0.tiedTo != nil }.map { "\"\($0.name.dropLast(".fp32".count))\"" }
            let second =
                tied.isEmpty
                ? [] : ["one parameter is another one under a second name, which is noted as shared_params: \(tied[0])"]
            return second + [
                "there are no param_groups, so that DeepSpeed will take the options of the job that loads this; only an "
                    + "optimizer with one group loads all of it"
            ]
        })

    static let hdf5 = WritableFormat(
        name: "hdf5",
        makeWriter: { HDF5Writer(storage: $0, key: "model.h5", replaces: $1) },
        open: { try HDF5Reader(storage: $0, file: "model.h5") },
        refusedNames: pathlessNames, valueFates: hdf5Fates, notes: opaqueNotes)

    static let kerasWeights = WritableFormat(
        name: "keras-weights",
        makeWriter: { HDF5Writer(storage: $0, key: "model.weights.h5", flavour: .kerasWeights, replaces: $1) },
        open: { try HDF5Reader(storage: $0, file: "model.weights.h5") },
        tensorName: { "layers/\($0)/vars/0" }, refusedNames: pathlessNames, valueFates: hdf5Fates, notes: opaqueNotes)

    /// What no path of HDF5 is.
    private static let pathlessNames: Set<String> = ["", ".", "/absolute", "a//b", "a/", "nul\u{0}inside"]

    static let npz = WritableFormat(
        name: "npz",
        makeWriter: { NumPyWriter(storage: $0, key: "model.npz", replaces: $1) },
        open: { try NumPyReader(storage: $0, file: "model.npz") },
        checksums: .elements, refusedNames: ["nul\u{0}inside"], valueFates: oneKindOfInteger,
        notes: { tensors, values in
            values.filter { isTextInNumPy($0.value) }
                .map { "the value \"\($0.name)\" is text that other readers will not understand" }
                + tieNotes(tensors) + rawNotes(tensors)
        })

    static let npy = WritableFormat(
        name: "npy",
        makeWriter: { NumPyArrayWriter(storage: $0, key: "model.npy", replaces: $1) },
        open: { try NumPyReader(storage: $0, file: "model.npy") },
        scalarTypes: Set(ScalarType.allCases.filter { numPyLacks[$0] == nil }), tensorName: { _ in "tensor" },
        greatestTensorCount: 1, keepsTies: false,
        valueFates: Dictionary(
            uniqueKeysWithValues: SampleValues.all.map { ($0.name, ValueFate(note: "left out: \($0.name)")) }),
        notes: { _, _ in ["the tensor's name, tensor, is not kept"] })

    /// The types that NumPy does not have, and what their elements are there.
    private static let numPyLacks: [ScalarType: String] = [
        .f4: "rows of packed bytes", .f6e2m3: "rows of packed bytes", .f6e3m2: "rows of packed bytes",
        .f8e5m2: "raw 1-byte elements", .f8e4m3: "raw 1-byte elements", .f8e8m0: "raw 1-byte elements",
        .f8e4m3fnuz: "raw 1-byte elements", .f8e5m2fnuz: "raw 1-byte elements", .bf16: "raw 2-byte elements",
        .c32: "raw 4-byte elements",
    ]

    // MARK: Values

    /// What comes back of a value, and the sentence that says so.
    struct ValueFate: Sendable {
        var note: String?
        var back: Value?
    }

    /// Integers are one kind where a format has one.
    private static let oneKindOfInteger = ["small unsigned": ValueFate(back: 7)]

    private static let hdf5Fates = oneKindOfInteger.merging([
        "empty bytes": ValueFate(note: "the value \"empty bytes\" is left out: no attribute can hold it"),
        "last nul": ValueFate(note: "the value \"last nul\" is left out: no attribute can hold it"),
        "empty dictionary": ValueFate(
            note: "the value \"empty dictionary\" is an empty dictionary, and a group with nothing in it is not a value"),
        "odd keys": ValueFate(
            note: "the value \"odd keys.\" is left out: no attribute can hold it", back: ["a/b": 2, "c.d": 3, "$": 4]),
        "digits": ValueFate(
            note: "the value \"digits\" has the keys 0, 1 and so on, and will be read as a list", back: [1, 2]),
    ]) { $1 }

    // MARK: Sentences

    private static func tieNotes(_ tensors: [TensorDescription]) -> [String] {
        tensors.compactMap { tensor in
            tensor.tiedTo.map {
                "\"\(tensor.name)\" is \"\($0)\" under another name and stored once; other readers will not see it"
            }
        }
    }

    @Sendable private static func textNotes(_ tensors: [TensorDescription], _ values: [NamedValue]) -> [String] {
        let ties = tieNotes(tensors)
        return switch values.count {
        case 0: ties
        case 1: ties + ["\"\(values[0].name)\" is not a tensor and kept as text that other readers will not understand"]
        default: ties + ["\(values.count) values are not tensors and kept as text that other readers will not understand"]
        }
    }

    /// Whether NumPy has no array of a value: of lists only those of one kind.
    private static func isTextInNumPy(_ value: Value) -> Bool {
        func kind(_ value: Value) -> Int? {
            switch value {
            case .bool: 0
            case .integer: 1
            case .unsigned: 2
            case .double: 3
            case .string(let text): text.unicodeScalars.last == "\0" ? nil : 4
            case .null, .bytes, .list, .dictionary: nil
            }
        }
        switch value {
        case .bytes: return false
        case .dictionary(let members): return members.isEmpty
        case .list(let elements):
            guard let first = elements.first.flatMap(kind) else { return true }
            return elements.contains { kind($0) != first }
        default: return kind(value) == nil
        }
    }

    /// The tensors of a type in words: how many, and the first three.
    private static func some(_ tensors: [TensorDescription], of type: ScalarType) -> (count: Int, names: String)? {
        let names = tensors.filter { $0.tiedTo == nil && $0.scalarType == type }.map(\.name)
        guard !names.isEmpty else { return nil }
        return (names.count, names.prefix(3).joined(separator: ", ") + (names.count > 3 ? ", …" : ""))
    }

    @Sendable private static func opaqueNotes(_ tensors: [TensorDescription], _ values: [NamedValue]) -> [String] {
        let opaque: [ScalarType] = [
            .bf16, .f4, .f6e2m3, .f6e3m2, .f8e4m3, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0,
        ]
        return opaque.compactMap { type in
            some(tensors, of: type).map {
                "\($0.count) tensors of \(type), which HDF5 has no type for (\($0.names)), are opaque bytes with an attribute "
                    + "dtype that says what they are"
            }
        }
    }

    private static func rawNotes(_ tensors: [TensorDescription]) -> [String] {
        ScalarType.allCases.compactMap { type in
            guard let form = numPyLacks[type], let found = some(tensors, of: type) else { return nil }
            return "\(found.count) tensors of \(type), which NumPy does not have (\(found.names)), are \(form); other readers "
                + "will not see what they are"
        }
    }
}
