public import CairnBase
public import CairnCheckpoint
public import CairnStorage
public import CairnTensor

/// A checkpoint of DeepSpeed with ZeRO 1, 2 or 3, also with pipeline parallelism, or a universal one.
///
/// Of every parameter there are `<name>.fp32`, `.exp_avg` and `.exp_avg_sq`, whole, whatever ranks hold parts of them,
/// and `.param` where the weight that the model computes with is stored; buffers are `<name>.buffer`. Values are those
/// of the first model rank's file and the optimizer's groups.
///
/// Source: `deepspeed/utils/zero_to_fp32.py` and `deepspeed/checkpoint/ds_to_universal.py` of DeepSpeed 0.19.
public final class DeepSpeedReader: VerifiableReader, OmittingReader {
    public let format = "deepspeed"
    public let source: String
    public let values: [NamedValue]
    public let omissions: [String]
    public var tensors: [TensorDescription] { table.descriptions }

    private let table: TensorTable
    private let storage: any Storage
    private let keys: [String]

    /// Opens the checkpoint whose files' keys in `storage` begin with `prefix`, such as `global_step400/`.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when a rank's file is missing, ``CairnError/Code/unsupported`` for
    ///   tensor and expert parallelism and for ZeRO 0.
    public init(storage: any Storage, prefix: String, source: String) throws(CairnError) {
        self.source = source
        var builder = DeepSpeedContents(storage, prefix: prefix, source: source)
        try builder.read()
        table = try builder.table()
        values = try builder.leaves.values()
        omissions = builder.omissions
        keys = builder.keys
        self.storage = storage
    }

    /// Opens a directory: one checkpoint, or what `latest` or `latest_universal` in it names.
    public convenience init(path: String) throws(CairnError) {
        let storage = LocalStorage(root: path)
        for name in ["latest", "latest_universal"] {
            guard let tag = try Self.tag(in: storage, name) else { continue }
            try self.init(storage: storage, prefix: tag + "/", source: path)
            return
        }
        try self.init(storage: storage, prefix: "", source: path)
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
                .malformed, "the file names no directory", .init(file: storage.place(of: name)), cause: error)
        }
        return tag
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func verify(deep: Bool, progress: (Int) throws -> Void) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = keys.count
        guard deep else { return report }
        for key in keys {
            try report.add(TorchContents(FileWindow(storage, key)).storages, progress: progress)
        }
        return report
    }
}
