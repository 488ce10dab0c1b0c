import CairnBase
public import CairnCheckpoint
import CairnStorage

extension CheckpointFormat {
    /// torch.distributed.checkpoint (DCP): a directory.
    public static let dcp = {
        var format = CheckpointFormat(
            name: "dcp", title: "torch.distributed.checkpoint", kinds: [.directory], recognise: DistributedFormat.claim,
            open: { path, options in
                Opening(
                    try DistributedCheckpointReader(
                        storage: LocalStorage(root: path).read(through: options.reading), source: path,
                        toleratesMissingFiles: options.toleratesMissingFiles))
            })
        format.fileExtensions = [".distcp"]
        format.checksCoverage = true
        format.withoutChecksums = "safetensors, and archives that leave them out, have none"
        format.targets = [
            CheckpointTarget(
                name: "dcp", summary: "a directory of torch.distributed.checkpoint", place: .directory,
                settings: [.fileCount],
                writer: { DistributedCheckpointWriter(path: $0, fileCount: $1.fileCount, replaces: $1.replaces) }),
            CheckpointTarget(
                name: "dcp-safetensors", summary: "the same as safetensors shards", place: .directory,
                settings: [.fileCount],
                writer: { ShardedSafeTensorsWriter(path: $0, fileCount: $1.fileCount, replaces: $1.replaces) }),
        ]
        return format
    }()
}

private enum DistributedFormat {
    /// A directory is one of this format when it has the metadata, or shards that no index describes.
    static func claim(_ contents: PathContents) throws(CairnError) -> CheckpointFormat.Claim? {
        if contents.kind == .file {
            // The metadata are a pickle themselves.
            guard contents.name == DistributedCheckpointReader.metadataName else { return nil }
            return .init(contents.directory, instead: ["torch"])
        }
        let names = try contents.names()
        if names.contains(DistributedCheckpointReader.metadataName) { return .init(contents.path) }
        let isSharded =
            !names.contains { $0.hasSuffix(".safetensors.index.json") }
            && names.contains { $0.hasPrefix("shard-") && $0.contains("-model-") && $0.hasSuffix(".safetensors") }
        guard isSharded || names.contains(where: { DistributedCheckpointReader.rank(ofMetadata: $0) != nil }) else { return nil }
        // The shards are safetensors files themselves.
        return .init(contents.path, instead: ["safetensors"])
    }
}
