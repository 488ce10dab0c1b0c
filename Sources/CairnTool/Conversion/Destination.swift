import CairnBase
import CairnCheckpoint
import CairnHDF5
import CairnInterop
import CairnStorage

/// Where a conversion writes, checked before anything is written.
struct Destination {
    let path: String
    let format: OutputFormat
    let replaces: Bool
    let maximumShardByteCount: Int
    /// Over how many files tensors are sharded, for the formats that do so.
    var fileCount = 1
    /// The step of the new checkpoint, for our own format.
    let step: Int
    /// Numbers that go with it, for our own format.
    let metrics: [String: Double]
    /// What it is made from, for our own format, and as text in the metadata of safetensors files where that is asked for.
    let lineage: Lineage
    /// Whether safetensors files carry the lineage.
    var carriesLineage = false

    /// The writer; nothing has been written yet.
    ///
    /// - Parameter source: the path that is read, which must not be touched.
    /// - Throws: ``CairnError/Code/alreadyExists`` for what must not be replaced, ``CairnError/Code/invalidArgument`` when
    ///   source and destination are the same.
    func writer(reading source: RecognisedFormat) throws -> any CheckpointWriter {
        switch format {
        case .cairn: return try storeWriter(reading: source)
        case .safetensors, .shardedSafetensors:
            try refuseSource(source)
            return try SafeTensorsWriter(
                path: path, maximumShardByteCount: format == .shardedSafetensors ? maximumShardByteCount : nil,
                metadata: metadata(), replaces: replaces)
        case .torch:
            try refuseFile(over: source)
            return try TorchWriter(path: path, replaces: replaces)
        case .dcp:
            try refuseDirectory(of: source)
            return DistributedCheckpointWriter(path: path, fileCount: fileCount, replaces: replaces)
        case .dcpSafetensors:
            try refuseDirectory(of: source)
            return ShardedSafeTensorsWriter(path: path, fileCount: fileCount, replaces: replaces)
        case .universal:
            try refuseDirectory(of: source)
            return DeepSpeedUniversalWriter(path: path, step: step, replaces: replaces)
        case .hdf5, .kerasWeights:
            try refuseFile(over: source)
            return try HDF5Writer(path: path, flavour: format == .hdf5 ? .plain : .kerasWeights, replaces: replaces)
        case .npz:
            try refuseFile(over: source)
            return try NumPyWriter(path: path, replaces: replaces)
        case .npy:
            try refuseFile(over: source)
            return try NumPyArrayWriter(path: path, replaces: replaces)
        }
    }

    private func metadata() throws(CairnError) -> [String: String] {
        var metadata = SafeTensorsWriter.defaultMetadata
        if carriesLineage { metadata["cairn.lineage"] = try lineage.text() }
        return metadata
    }

    /// A single file replaces nothing but itself: it must not be the source or lie inside of it.
    private func refuseFile(over source: RecognisedFormat) throws(CairnError) {
        if try PathInspection.kind(of: path) == .directory {
            throw CairnError(
                .invalidArgument, "this format is written as one file", .init(file: path, found: "a directory"))
        }
        let target = PathInspection.canonical(path)
        let isSame: Bool
        switch source {
        case .checkpoint(let store, let step):
            let inside = PathInspection.join(PathInspection.canonical(store), StepName.prefix(step))
            isSame = target.hasPrefix(inside)
        // An index stands for the files beside it.
        case .torch(let path) where path.hasSuffix(".json"):
            let isBeside = PathInspection.split(target).directory
                == PathInspection.split(PathInspection.canonical(path)).directory
            isSame = isBeside ? try PathInspection.kind(of: target) != nil : false
        default:
            let origin = PathInspection.canonical(source.path)
            isSame = target == origin || target.hasPrefix(origin + "/")
        }
        if isSame { throw overSource("choose another path") }
    }

    /// Writers of directories delete old files of their format there: none may belong to the source.
    private func refuseDirectory(of source: RecognisedFormat) throws(CairnError) {
        let target = PathInspection.canonical(path)
        let origin = PathInspection.canonical(source.path)
        let isInside = try PathInspection.kind(of: origin) != .directory
            && target == PathInspection.split(origin).directory
        if target == origin || isInside || target.hasPrefix(origin + "/") { throw overSource("choose another path") }
    }

    /// The writer of a safetensors checkpoint deletes old files of its name: none may belong to the source.
    private func refuseSource(_ source: RecognisedFormat) throws(CairnError) {
        let isFile = path.hasSuffix(".safetensors")
        let (directory, name) = isFile ? PathInspection.split(path) : (path, "model.safetensors")
        let target = PathInspection.canonical(directory)
        let stem = String(name.dropLast(".safetensors".count))
        let isSame: Bool
        switch source {
        case .store(let store): isSame = target == PathInspection.canonical(store)
        case .checkpoint(let store, let step):
            let canonical = PathInspection.canonical(store)
            let inside = PathInspection.join(canonical, StepName.prefix(step))
            isSame = target == canonical || (target + "/").hasPrefix(inside)
        case .safetensors(let path):
            if try PathInspection.kind(of: path) == .directory {
                isSame = target == PathInspection.canonical(path)
            } else {
                let (directory, name) = PathInspection.split(PathInspection.canonical(path))
                isSame = target == directory && Self.isName(name, ofStem: stem)
            }
        case .distributed(let path), .deepspeed(let path): isSame = target == PathInspection.canonical(path)
        case .torch(let source), .hdf5(let source), .keras(let source), .numpy(let source):
            isSame = PathInspection.canonical(path) == PathInspection.canonical(source)
        }
        if isSame { throw overSource("choose another path") }
    }

    private func overSource(_ advice: String) -> CairnError {
        CairnError(
            .invalidArgument, "the result would be written over or into the source", .init(file: path, advice: advice))
    }

    private func storeWriter(reading source: RecognisedFormat) throws -> any CheckpointWriter {
        let (store, options) = try store(reading: source)
        return try CairnWriter(store: store, step: step, options: options)
    }

    /// The run to write to and how, for our own format.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when the result would be written over or into the source.
    func store(reading source: RecognisedFormat) throws -> (CheckpointStore, SaveOptions) {
        if case .checkpoint(let store, let sourceStep) = source {
            let canonical = PathInspection.canonical(path), origin = PathInspection.canonical(store)
            let inside = PathInspection.join(origin, StepName.prefix(sourceStep))
            if (canonical == origin && step == sourceStep) || (canonical + "/").hasPrefix(inside) {
                throw overSource("choose another --step or another run")
            }
        }
        switch source {
        case .distributed(let source), .deepspeed(let source):
            if PathInspection.canonical(path) == PathInspection.canonical(source) {
                throw overSource("choose another run")
            }
        default: break
        }
        if try PathInspection.kind(of: path) == .directory {
            guard case .store = try RecognisedFormat(of: path, forced: .cairn) else {
                throw CairnError(
                    .invalidArgument, "this is one checkpoint of a run",
                    .init(file: path, expected: "the directory of a run"))
            }
        }
        var options = SaveOptions()
        options.metrics = metrics
        options.lineage = lineage
        options.replacing = replaces
        return (CheckpointStore(path: path), options)
    }

    /// Whether a file is the one, a shard or the index of a safetensors checkpoint with this stem.
    private static func isName(_ name: String, ofStem stem: String) -> Bool {
        if name == stem + ".safetensors" || name == stem + ".safetensors.index.json" { return true }
        guard name.hasPrefix(stem + "-"), name.hasSuffix(".safetensors") else { return false }
        let parts = name.dropFirst(stem.count + 1).dropLast(".safetensors".count).split(separator: "-")
        return parts.count == 3 && parts[1] == "of" && (parts[0] + parts[2]).allSatisfy(\.isNumber)
    }
}
