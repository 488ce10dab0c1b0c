import CairnBase
import CairnStorage

extension CheckpointFormat {
    /// safetensors: a file, the index of several, or a directory that holds either.
    public static let safetensors = {
        var format = CheckpointFormat(
            name: "safetensors", title: "safetensors", kinds: [.file, .directory], recognise: SafeTensorsFormat.claim,
            open: { path, options in try SafeTensorsFormat.open(path, options) })
        format.fileExtensions = [SafeTensorsShardName.fileExtension]
        format.targets = [
            CheckpointTarget(
                name: "safetensors", summary: "NAME.safetensors, or a directory", place: .namedFiles,
                writer: { try SafeTensorsFormat.writer($0, $1, maximumShardByteCount: nil) }),
            CheckpointTarget(
                name: "safetensors-sharded", summary: "a directory, or NAME.safetensors in one", place: .namedFiles,
                settings: [.maximumShardSize],
                writer: { try SafeTensorsFormat.writer($0, $1, maximumShardByteCount: $1.maximumShardByteCount) }),
        ]
        for index in format.targets.indices { format.targets[index].namedFiles = SafeTensorsFormat.files }
        return format
    }()
}

private enum SafeTensorsFormat {
    static func claim(_ contents: PathContents) throws(CairnError) -> CheckpointFormat.Claim? {
        let name = contents.name
        let isOne = { (name: String) in
            name.hasSuffix(SafeTensorsShardName.fileExtension) || name.hasSuffix(SafeTensorsShardName.indexExtension)
        }
        if contents.kind == .directory { return try contents.names().contains(where: isOne) ? .init(contents.path) : nil }
        if name.hasSuffix(SafeTensorsShardName.indexExtension) { return .init(contents.path) }
        if SafeTensorsReader.mayBegin(with: try contents.beginning()) { return .init(contents.path) }
        // An index whose name does not say of what: of other formats if they know it by what is in it.
        if name.hasSuffix(".index.json") { return .init(contents.path, .trace) }
        return name.hasSuffix(SafeTensorsShardName.fileExtension) ? .init(contents.path, .name) : nil
    }

    /// An error names the file by its path and not only by its name.
    static func open(
        _ path: String, _ options: CheckpointFormat.OpenOptions
    ) throws(CairnError) -> CheckpointFormat.Opening {
        let isDirectory = try PathInspection.kind(of: path) == .directory
        do throws(CairnError) {
            let missing = MissingShards(isTolerated: options.toleratesMissingFiles)
            let reader = try SafeTensorsReader(path: path, missing: missing, reading: options.reading)
            // All of those are the model, unless an index names them.
            let files =
                isDirectory
                ? try PathInspection.names(in: path).filter { $0.hasSuffix(SafeTensorsShardName.fileExtension) } : nil
            var opening = CheckpointFormat.Opening(reader, files: files)
            opening.absentTensors = missing.tensors
            return opening
        } catch {
            guard let file = error.context.file, file != path, !file.hasPrefix("/") else { throw error }
            var located = error
            located.context.file = PathInspection.join(isDirectory ? path : PathInspection.split(path).directory, file)
            throw located
        }
    }

    /// The files of a checkpoint at a path: one, its shards or its index, in a directory under the usual name.
    @Sendable static func files(at path: String) -> CheckpointTarget.NamedFiles {
        let isFile = path.hasSuffix(SafeTensorsShardName.fileExtension)
        let (directory, file) = isFile ? PathInspection.split(path) : (path, "model" + SafeTensorsShardName.fileExtension)
        let stem = String(file.dropLast(SafeTensorsShardName.fileExtension.utf8.count))
        return .init(in: directory) { name in
            if name == file || name == stem + SafeTensorsShardName.indexExtension { return true }
            return SafeTensorsShardName(name).map { ExactString($0.stem) == ExactString(stem) } ?? false
        }
    }

    static func writer(
        _ path: String, _ options: CheckpointTarget.Options, maximumShardByteCount: Int?
    ) throws(CairnError) -> SafeTensorsWriter {
        try SafeTensorsWriter(
            path: path, maximumShardByteCount: maximumShardByteCount,
            metadata: SafeTensorsWriter.defaultMetadata.merging(options.metadata) { $1 }, replaces: options.replaces)
    }
}

extension SafeTensorsReader {
    /// Whether the bytes begin with a plausible header length and the brace that follows it.
    package static func mayBegin(with bytes: [UInt8]) -> Bool {
        guard bytes.count > 8, bytes[8] == UInt8(ascii: "{") else { return false }
        // The header is at most 100 MB, so its length has five zero bytes on top but for the lowest bits of one.
        return bytes[4..<8].allSatisfy { $0 == 0 }
    }
}
