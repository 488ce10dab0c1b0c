import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnHDF5
import CairnInterop
import CairnStorage

/// What a path turned out to hold.
enum RecognisedFormat: Equatable {
    /// A run: a directory of checkpoints.
    case store(path: String)
    /// One checkpoint of a run: a directory with a manifest.
    case checkpoint(store: String, step: Int)
    /// A safetensors file, an index of several, or a directory that holds either.
    case safetensors(path: String)
    /// A file of `torch.save`.
    case torch(path: String)
    /// A directory of torch.distributed.checkpoint.
    case distributed(path: String)
    /// A directory of DeepSpeed.
    case deepspeed(path: String)
    /// An HDF5 file.
    case hdf5(path: String)
    /// A `.keras` file, or an index of Keras's sharded weights.
    case keras(path: String)
    /// A `.npy` or `.npz` file.
    case numpy(path: String)
}

extension RecognisedFormat {
    /// The one checkpoint that was opened, of a run: what must not be written over.
    func narrowed(to manifest: Manifest?) -> RecognisedFormat {
        guard case .store(let store) = self, let manifest else { return self }
        return .checkpoint(store: store, step: manifest.step)
    }

    /// The file or directory; for one checkpoint of a run, the run.
    var path: String {
        switch self {
        case .checkpoint(let store, _): store
        case .store(let path), .safetensors(let path), .torch(let path), .distributed(let path), .deepspeed(let path),
            .hdf5(let path), .keras(let path), .numpy(let path):
            path
        }
    }
}

/// The formats that `--format` can force.
enum FormatName: String, CaseIterable, ExpressibleByArgument {
    case cairn
    case safetensors
    case torch
    case dcp
    case deepspeed
    case hdf5
    case keras
    case numpy
}

extension RecognisedFormat {
    static let manifestName = "manifest.json"
    private static let metadataName = ".metadata"
    private static let indexSuffix = ".index.json"
    private static let fileSuffix = ".safetensors"
    private static let kerasIndexSuffix = ".weights.json"

    /// Finds out what a path holds.
    ///
    /// - Parameters:
    ///   - forced: the only format to think of, as the user said.
    ///   - looksInside: whether the message about a directory says what in it is a checkpoint.
    /// - Throws: ``CairnError/Code/unsupported`` for what is not recognised or is so in two ways; the message says what was
    ///   seen.
    init(of path: String, forced: FormatName? = nil, looksInside: Bool = true) throws(CairnError) {
        switch try PathInspection.kind(of: path) {
        case .directory: self = try Self.directory(path, forced, looksInside: looksInside)
        case .file: self = try Self.file(path, forced)
        case nil: throw CairnError(.notFound, "there is no such file or directory", .init(file: path))
        default:
            throw CairnError(.unsupported, "this is neither a file nor a directory", .init(file: path))
        }
    }

    private static func directory(
        _ path: String, _ forced: FormatName?, looksInside: Bool
    ) throws(CairnError) -> RecognisedFormat {
        if forced == .safetensors { return .safetensors(path: path) }
        if forced == .dcp { return .distributed(path: path) }
        if forced == .deepspeed { return .deepspeed(path: path) }
        if forced == .torch { return .torch(path: path) }
        if forced == .hdf5 || forced == .keras || forced == .numpy {
            throw CairnError(.unsupported, "a checkpoint of this format is a file", .init(file: path))
        }
        let names = try PathInspection.names(in: path)
        let hasSafetensors = names.contains { $0.hasSuffix(fileSuffix) || $0.hasSuffix(fileSuffix + indexSuffix) }
        if forced == nil, let only = try foreign(path, names, hasSafetensors: hasSafetensors) { return only }
        let canonical = PathInspection.split(PathInspection.canonical(path))
        if let step = step(ofDirectory: canonical.name) {
            if names.contains(manifestName) { return .checkpoint(store: canonical.directory, step: step) }
            // Its rank files can be read as safetensors, but they are not known to be whole.
            throw CairnError(
                .incomplete, "the checkpoint of step \(step) was never finished: it has no manifest",
                .init(file: path, advice: "take another checkpoint; `cairn repair` brings back a manifest that was lost"))
        }
        let hasSteps = names.contains { step(ofDirectory: $0) != nil }
        switch (hasSteps, hasSafetensors) {
        case (true, true) where forced == nil:
            throw CairnError(
                .unsupported, "the directory is both a run and a safetensors checkpoint",
                .init(file: path, advice: "say which by --format cairn or --format safetensors"))
        case (true, _): return .store(path: path)
        case (false, true) where forced == nil: return .safetensors(path: path)
        case (false, false) where forced == nil && TorchDirectory(names) != nil: return .torch(path: path)
        // A run whose first checkpoint is yet to come holds nothing.
        case _ where forced == .cairn: return .store(path: path)
        default: throw try UnknownDirectory.error(path, names, looksInside: looksInside)
        }
    }

    /// The only format of others that a directory can be; `nil` when it may be safetensors, ours, or nothing known.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` when it can be several things.
    private static func foreign(
        _ path: String, _ names: [String], hasSafetensors: Bool
    ) throws(CairnError) -> RecognisedFormat? {
        var candidates: [(name: FormatName, format: RecognisedFormat)] = []
        if isDistributed(names) { candidates.append((.dcp, .distributed(path: path))) }
        if isDeepSpeed(names) { candidates.append((.deepspeed, .deepspeed(path: path))) }
        guard let first = candidates.first else { return nil }
        // Shards of torch.distributed.checkpoint are safetensors files themselves.
        let isSharded = first.name == .dcp && !names.contains(metadataName)
        if hasSafetensors, !isSharded { candidates.append((.safetensors, .safetensors(path: path))) }
        if names.contains(where: { step(ofDirectory: $0) != nil }) {
            candidates.append((.cairn, .store(path: path)))
        }
        guard candidates.count > 1 else { return first.format }
        throw CairnError(
            .unsupported, "the directory can be read as several formats",
            .init(
                file: path, found: candidates.map(\.name.rawValue).joined(separator: ", "),
                advice: "say which by --format " + candidates.map(\.name.rawValue).joined(separator: " or ")))
    }

    private static func file(_ path: String, _ forced: FormatName?) throws(CairnError) -> RecognisedFormat {
        let (directory, name) = PathInspection.split(path)
        switch forced {
        case .torch: return .torch(path: path)
        case .hdf5: return .hdf5(path: path)
        case .keras: return .keras(path: path)
        case .numpy: return .numpy(path: path)
        default: break
        }
        if forced == nil, name.hasSuffix(kerasIndexSuffix) { return .keras(path: path) }
        if name == metadataName, forced == nil || forced == .dcp { return .distributed(path: directory) }
        if name == manifestName, forced == nil || forced == .cairn {
            let checkpoint = PathInspection.split(PathInspection.split(PathInspection.canonical(path)).directory)
            if let step = step(ofDirectory: checkpoint.name) {
                return .checkpoint(store: checkpoint.directory, step: step)
            }
        }
        if forced == .dcp || forced == .deepspeed {
            throw CairnError(
                .unsupported, "a checkpoint of this format is a directory", .init(file: path, found: "a file"))
        }
        if forced == .cairn {
            throw CairnError(
                .unsupported, "this is not a checkpoint of a run",
                .init(file: path, expected: "the directory of a run or of a checkpoint", found: "a file"))
        }
        if forced == .safetensors { return .safetensors(path: path) }
        if name.hasSuffix(indexSuffix) { return try index(path) }
        // By the content, whatever the name says.
        let beginning = try PathInspection.beginning(of: path, byteCount: FileSignature.byteCount)
        if FileSignature.looksLikeSafetensors(beginning) { return .safetensors(path: path) }
        if FileSignature.isNumPyArray(beginning) { return .numpy(path: path) }
        if FileSignature.isZipArchive(beginning) { return try archive(path) }
        if TorchContainer.isTorch(beginning), !ForeignFile.isJoblib(beginning) { return .torch(path: path) }
        if try hasHDF5(path) { return .hdf5(path: path) }
        // What is left of one that was cut short in its first bytes goes by its name.
        if name.hasSuffix(fileSuffix) { return .safetensors(path: path) }
        let found = try ForeignFile(path: path)
        throw CairnError(
            found?.isDamaged == true ? .incomplete : .unsupported, "the file is not a checkpoint that Cairn reads",
            .init(
                file: path, expected: "safetensors, a file of torch.save, HDF5, Keras or NumPy",
                found: found?.name ?? "something else",
                advice: found == nil ? "if it is safetensors all the same, say --format safetensors" : found?.advice))
    }

    /// An index of several files: its own name, or theirs, says of which kind they are.
    private static func index(_ path: String) throws(CairnError) -> RecognisedFormat {
        if path.hasSuffix(fileSuffix + indexSuffix) { return .safetensors(path: path) }
        if TorchDirectory.isIndex(path) { return .torch(path: path) }
        let beginning = try PathInspection.beginning(of: path, byteCount: 1 << 16)
        let names = [".bin\"", ".pt\"", ".pth\""]
        return names.contains { beginning.firstRange(of: Array($0.utf8)) != nil } ? .torch(path: path) : .safetensors(path: path)
    }

    /// Which of the formats that are zip archives a file is, by the names in it.
    private static func archive(_ path: String) throws(CairnError) -> RecognisedFormat {
        let (directory, name) = PathInspection.split(path)
        let names: [String]
        do throws(CairnError) {
            names = try ZipArchive.names(atBeginningOf: LocalStorage(root: directory).open(name))
        } catch {
            var located = error
            located.context.file = path
            throw located
        }
        let isKeras = names.contains(KerasReader.weightsRecordName)
        let isTorch = names.contains { $0 == "data.pkl" || $0.hasSuffix("/data.pkl") }
        // An archive of arrays; one without anything in it is what NumPy writes of no arrays.
        let isNumPy = !isKeras && !isTorch && (names.isEmpty || names.contains { $0.hasSuffix(".npy") })
        if isKeras, isTorch {
            throw CairnError(
                .unsupported, "the zip archive is both of torch.save and of Keras",
                .init(file: path, advice: "say which by --format torch or --format keras"))
        }
        return isKeras ? .keras(path: path) : isNumPy ? .numpy(path: path) : .torch(path: path)
    }

    /// Whether an HDF5 file begins somewhere: at the beginning, or at 512 times a power of two.
    private static func hasHDF5(_ path: String) throws(CairnError) -> Bool {
        let (directory, name) = PathInspection.split(path)
        let file = try LocalStorage(root: directory).open(name)
        var offset = 0
        while offset <= file.byteCount - 8 {
            if FileSignature.isHDF5(try file.bytes(in: offset..<offset + 8)) { return true }
            offset = offset == 0 ? 512 : offset * 2
        }
        return false
    }

    /// Whether a directory with these files is one of torch.distributed.checkpoint: it has the metadata, or shards that
    /// no index describes.
    private static func isDistributed(_ names: [String]) -> Bool {
        if names.contains(metadataName) { return true }
        if names.contains(where: { DistributedCheckpointReader.rank(ofMetadata: $0) != nil }) { return true }
        guard !names.contains(where: { $0.hasSuffix(fileSuffix + indexSuffix) }) else { return false }
        return names.contains { $0.hasPrefix("shard-") && $0.contains("-model-") && $0.hasSuffix(fileSuffix) }
    }

    /// Whether a directory with these files is a checkpoint of DeepSpeed, or says which one is the latest.
    private static func isDeepSpeed(_ names: [String]) -> Bool {
        names.contains { name in
            ["latest", "latest_universal", "mp_rank_00_model_states.pt"].contains(name)
                || name == "zero_pp_rank_0_mp_rank_00_model_states.pt"
        }
    }

    /// 400 for `step-00000400`.
    private static func step(ofDirectory name: String) -> Int? {
        StepName.step(ofKey: name + "/")
    }
}
