public import CairnBase
public import CairnCheckpoint
public import CairnStorage
public import CairnTensor

/// A checkpoint of DeepSpeed, with or without ZeRO, also with pipeline or tensor parallelism, or a universal one.
///
/// Of every parameter there are `<name>.fp32` and the optimizer's states (`.exp_avg`, `.exp_avg_sq`, …), whole, whatever ranks
/// hold parts of them, and `.param` where the weight that the model computes with is stored; buffers are `<name>.buffer`.
/// Weights under a second name are tied to those under the first. Values are those of the first model rank's file, and the
/// optimizer's options, parameters and steps by groups.
///
/// Source: `deepspeed/utils/zero_to_fp32.py` and `deepspeed/checkpoint/ds_to_universal.py` of DeepSpeed 0.19.
public final class DeepSpeedReader: CheckpointReader {
    public let format = "deepspeed"
    public let source: String
    public let values: [NamedValue]
    public let skippedEntries: [String]
    public var tensors: [TensorDescription] { table.descriptions }

    private let table: TensorTable
    private let storage: any Storage
    private let keys: [String]

    /// Opens the checkpoint whose files' keys in `storage` begin with `prefix`, such as `global_step400/`.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when a rank's file is missing, ``CairnError/Code/unsupported`` when
    ///   tensor ranks shard parameters and the checkpoint does not say how: then ``ranks(path:)`` have the parts.
    public convenience init(storage: any Storage, prefix: String, source: String) throws(CairnError) {
        var contents = DeepSpeedContents(storage, prefix: prefix, source: source)
        try contents.read()
        try self.init(contents, contents.whole(), storage, source: source)
    }

    private init(
        _ contents: DeepSpeedContents, _ rank: DeepSpeedRank, _ storage: any Storage, source: String
    ) throws(CairnError) {
        self.source = source
        var entries: [(name: String, content: any TensorView, tiedTo: String?)] = []
        for key in rank.keys {
            if let content = rank.entries[key] { entries.append((key.name, content, nil)) }
        }
        for second in rank.tied() { entries.append((second.name, second.content, second.tiedTo)) }
        table = try TensorTable(checking: entries, source: source)
        values = try contents.leaves.values()
        skippedEntries = contents.skippedEntries
        keys = contents.keys
        self.storage = storage
    }

    /// What each model rank holds, stage by stage and in each stage tensor rank by tensor rank: the parts of
    /// parameters that rules can gather.
    ///
    /// - Throws: As the initializer, but for rules that are missing.
    package static func ranks(
        storage: any Storage, prefix: String, source: String
    ) throws(CairnError) -> [DeepSpeedReader] {
        var contents = DeepSpeedContents(storage, prefix: prefix, source: source)
        try contents.read()
        var readers: [DeepSpeedReader] = []
        for (number, rank) in contents.ranks.enumerated() {
            readers.append(
                try DeepSpeedReader(contents, rank, storage, source: "\(source), model rank \(number)"))
        }
        return readers
    }

    /// What each model rank of the checkpoint in a directory holds.
    public static func ranks(path: String) throws(CairnError) -> [DeepSpeedReader] {
        let storage = LocalStorage(root: path)
        return try ranks(storage: storage, prefix: prefix(in: storage), source: path)
    }

    /// Opens a directory: one checkpoint, or what `latest` or `latest_universal` in it names.
    public convenience init(path: String) throws(CairnError) { try self.init(path: path, reading: nil) }

    convenience init(path: String, reading: ReadingStorage?) throws(CairnError) {
        let storage = LocalStorage(root: path).read(through: reading)
        try self.init(storage: storage, prefix: Self.prefix(in: storage), source: path)
    }

    private static func prefix(in storage: any Storage) throws(CairnError) -> String {
        for name in ["latest", "latest_universal"] {
            if let tag = try tag(in: storage, name) { return tag + "/" }
        }
        return ""
    }

    private static func tag(in storage: any Storage, _ name: String) throws(CairnError) -> String? {
        let bytes: [UInt8]
        do throws(CairnError) {
            bytes = try storage.readAll(name, limit: 4096)
        } catch {
            if error.code == .notFound { return nil }
            throw error
        }
        let tag = String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
        do throws(CairnError) {
            try StorageKey.validate(tag)
        } catch {
            throw CairnError(
                .malformed, "the file names no directory", .init(file: storage.location(of: name)), cause: error)
        }
        return tag
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = keys.count
        guard deep else { return report }
        for key in keys {
            try report.add(TorchContents(FileWindow(storage, key)), progress: progress)
        }
        return report
    }
}

/// The files of a DeepSpeed checkpoint, told apart by their names.
struct DeepSpeedFiles {
    /// `mp_rank_00_model_states.pt` by model rank.
    var models: [Int: String] = [:]
    /// `zero_pp_rank_0_mp_rank_00_model_states.pt` by model rank and data rank: ZeRO 3.
    var modelParts: [Int: [Int: String]] = [:]
    /// `[bf16_]zero_pp_rank_0_mp_rank_00_optim_states.pt` by model rank and data rank.
    var optimizers: [Int: [Int: String]] = [:]
    /// `layer_00-model_states.pt`: pipeline parallelism, a file for each layer and tensor rank.
    var layers: [(layer: Int, tensorRank: Int?, name: String)] = []
    /// `layer_0_expert_3_mp_rank_00_model_states.pt`: the weights of one expert.
    var experts: [(modelRank: Int, name: String)] = []
    /// The states (`fp32`, `exp_avg`, …) of each parameter of a universal checkpoint, in `zero/<name>/<state>.pt`.
    var universal: [(parameter: String, states: [String])] = []
    /// Whether there is a universal checkpoint's `zero/optimizer_state.pt`.
    var hasUniversalOptimizer = false
    /// Files of states that are not known.
    var others: [String] = []

    static let universalFolder = "zero/"
    static let universalOptimizer = "zero/optimizer_state.pt"
    private static let universalSuffix = ".pt"
    /// What precedes the names of ZeRO's files, by the optimizer's precision.
    private static let precisions = ["", "bf16_", "fp16_"]

    /// - Parameter names: The keys of the files below the checkpoint's directory, sorted.
    init(_ names: [String]) {
        for name in names {
            if name.hasPrefix(Self.universalFolder), name.hasSuffix(Self.universalSuffix) {
                addUniversal(name)
            } else if !name.contains("/"), name.hasSuffix("states.pt"), !add(name) {
                others.append(name)
            }
        }
        layers.sort { ($0.layer, $0.tensorRank ?? 0) < ($1.layer, $1.tensorRank ?? 0) }
    }

    /// The number of tensor ranks that the names of layers tell; `nil` without layers.
    var tensorDegree: Int? { layers.isEmpty ? nil : Set(layers.map { $0.tensorRank ?? 0 }).count }

    private mutating func addUniversal(_ name: String) {
        if name == Self.universalOptimizer {
            hasUniversalOptimizer = true
            return
        }
        let path = name.dropFirst(Self.universalFolder.count).dropLast(Self.universalSuffix.count)
        guard let slash = path.lastIndex(of: "/") else { return others.append(name) }
        let parameter = String(path[..<slash]), state = String(path[path.index(after: slash)...])
        if let last = universal.last, last.parameter == parameter {
            universal[universal.count - 1].states.append(state)
        } else {
            universal.append((parameter, [state]))
        }
    }

    private mutating func add(_ name: String) -> Bool {
        if let numbers = Self.numbers(in: name, "mp_rank_#_model_states.pt") {
            models[numbers[0]] = name
        } else if let numbers = Self.numbers(in: name, "zero_pp_rank_#_mp_rank_#_model_states.pt") {
            modelParts[numbers[1], default: [:]][numbers[0]] = name
        } else if let numbers = Self.numbers(in: name, "layer_#-model_states.pt") {
            layers.append((numbers[0], nil, name))
        } else if let numbers = Self.numbers(in: name, "layer_#-model_#-model_states.pt") {
            layers.append((numbers[0], numbers[1], name))
        } else if let numbers = Self.numbers(in: name, "layer_#_expert_#_mp_rank_#_model_states.pt") {
            experts.append((numbers[2], name))
        } else if let numbers = Self.numbers(in: name, "expert_#_mp_rank_#_model_states.pt") {
            experts.append((numbers[1], name))
        } else {
            for precision in Self.precisions {
                // Until version 0.3.11 there was no underscore behind the number.
                for end in ["_optim_states.pt", "optim_states.pt"] {
                    let pattern = precision + "zero_pp_rank_#_mp_rank_#" + end
                    guard let numbers = Self.numbers(in: name, pattern) else { continue }
                    optimizers[numbers[1], default: [:]][numbers[0]] = name
                    return true
                }
            }
            return false
        }
        return true
    }

    /// The numbers of a name that is else like the pattern, in which `#` stands for one.
    static func numbers(in name: String, _ pattern: String) -> [Int]? {
        var rest = name[...]
        var numbers: [Int] = []
        for (index, text) in pattern.split(separator: "#", omittingEmptySubsequences: false).enumerated() {
            if index > 0 {
                let digits = rest.prefix { $0.isASCII && $0.isWholeNumber }
                guard let number = Int(digits) else { return nil }
                numbers.append(number)
                rest = rest[digits.endIndex...]
            }
            guard rest.hasPrefix(text) else { return nil }
            rest = rest.dropFirst(text.count)
        }
        return rest.isEmpty ? numbers : nil
    }
}

/// The weights of another checkpoint under the names that the model has for them, and nothing else: of DeepSpeed's names
/// `<name>.fp32`, or `<name>.param` of what is not trained, and `<name>.buffer`.
///
/// Tied weights stay tied. That is what DeepSpeed's own `zero_to_fp32.py` makes, in the types in which they are stored.
public struct ModuleWeights: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue] = []
    public let structure: StateNode? = nil
    /// Parallel to `tensors`.
    private let originalNames: [String]

    /// The states that are a weight, the one that counts first.
    private static let states = [".fp32", ".param", ".buffer"]

    /// - Throws: ``CairnError/Code/unsupported`` for a checkpoint that names its tensors otherwise.
    public init(_ base: any CheckpointReader) throws(CairnError) {
        self.base = base
        var viewed: [ViewedTensor] = []
        var found: Set<ExactString> = []
        for state in Self.states {
            for tensor in base.tensors where tensor.name.hasSuffix(state) {
                var description = tensor
                description.name = String(tensor.name.dropLast(state.count))
                guard !description.name.isEmpty, found.insert(ExactString(description.name)).inserted else { continue }
                viewed.append(ViewedTensor(description: description, originalName: tensor.name))
            }
        }
        guard !viewed.isEmpty else {
            throw CairnError(
                .unsupported, "no tensor is named as DeepSpeed names weights",
                .init(
                    file: base.source, expected: "NAME.fp32, NAME.param or NAME.buffer",
                    found: base.tensors.first?.name ?? "no tensors", advice: "choose tensors by --include"))
        }
        viewed = viewed.retied(below: base.tensors)
        tensors = viewed.map(\.description)
        originalNames = viewed.map(\.originalName)
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        originalNames[try tensors.requiredPosition(of: name, in: source)]
    }
}
