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
    ///   tensor ranks shard parameters and the checkpoint does not say how: then ``ranks(storage:prefix:source:)``
    ///   have the parts.
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
    public static func ranks(
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
    public convenience init(path: String) throws(CairnError) {
        let storage = LocalStorage(root: path)
        try self.init(storage: storage, prefix: Self.prefix(in: storage), source: path)
    }

    private static func prefix(in storage: LocalStorage) throws(CairnError) -> String {
        for name in ["latest", "latest_universal"] {
            if let tag = try tag(in: storage, name) { return tag + "/" }
        }
        return ""
    }

    private static func tag(in storage: LocalStorage, _ name: String) throws(CairnError) -> String? {
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
