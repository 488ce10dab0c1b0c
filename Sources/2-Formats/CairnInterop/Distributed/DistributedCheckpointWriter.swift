import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as a directory of torch.distributed.checkpoint (DCP), which `dcp.load` of PyTorch 2.1 and later
/// reads on any number of ranks.
///
/// Tensors are sharded along their first dimension over as many files as are wanted, as if so many ranks had saved them.
/// Values are items of their own under the keys on the way to them. Tied tensors have one item and two names. Nothing is
/// held in memory; `.metadata` comes last, and without it there is no checkpoint.
public final class DistributedCheckpointWriter: TensorStreamWriter {
    private let storage: any Storage
    private let prefix: String
    private let fileCount: Int
    private let replaces: Bool

    /// A file of the checkpoint.
    private struct File {
        var name: String
        var writer: any StorageWriter
        /// Where the next item begins, in bytes.
        var offset = 0
    }

    private var files: [File] = []
    private var tensors: [MetadataPickle.Tensor] = []
    private var objects: [MetadataPickle.Object] = []
    /// The parts whose bytes come, each with the place of its tensor in ``tensors``.
    private var parts: [(tensor: Int, part: FileSharding.Part)] = []
    /// What is being written of the current part.
    private var archive: TorchArchiveWriter?
    /// Files that are there under their names, until the whole checkpoint is.
    private var published: [String] = []
    package var stream = TensorStream()
    package var destination: String { storage.location(of: prefix) }

    /// Prepares to write files whose keys begin with `prefix`, such as `step-400/`; nothing happens before it
    /// begins.
    ///
    /// - Parameters:
    ///   - fileCount: Over how many files the tensors are sharded.
    ///   - replaces: Whether a checkpoint may be there. It is deleted at the beginning.
    public init(storage: any Storage, prefix: String = "", fileCount: Int = 1, replaces: Bool = false) {
        self.storage = storage
        self.prefix = prefix
        self.fileCount = max(1, fileCount)
        self.replaces = replaces
    }

    /// Prepares to write a directory.
    public convenience init(path: String, fileCount: Int = 1, replaces: Bool = false) {
        self.init(storage: LocalStorage(root: path), fileCount: fileCount, replaces: replaces)
    }

    deinit { discard() }

    /// Plans the files and writes the values.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for tensors that PyTorch has no type
    ///   for.
    package func open(
        tensors descriptions: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        let state = try FlattenedState(
            structure ?? StateNode(flat: descriptions, values: values), file: destination)
        var entries: [ExactString: FlattenedState.FlatEntry] = [:]
        for entry in state.entries {
            if case .tensor(let name) = entry.leaf { entries[ExactString(name)] = entry }
        }
        for (index, description) in descriptions.enumerated() {
            let entry = entries[ExactString(description.name)]
            tensors.append(
                .init(
                    name: entry?.name ?? description.name, path: entry?.path ?? [StateKey(description.name)],
                    description: description, pieces: []))
            guard description.tiedTo == nil else { continue }
            // Refused here, before anything is written.
            _ = try TorchTypes.extents(of: description)
            _ = try StatePickle.bytes(
                of: .tensor(description.name), tensors: [.init(description: description, storage: 0)])
            let sharding = try FileSharding(description, fileCount: fileCount, whole: index % fileCount)
            parts += sharding.parts.map { (index, $0) }
        }
        try makeRoom()
        try openFiles()
        for entry in state.entries {
            guard case .value(let node) = entry.leaf else { continue }
            var archive = try TorchArchiveWriter(
                files[0].writer, at: files[0].offset, prefix: Self.archivePrefix,
                pickle: StatePickle.bytes(of: node, tensors: []))
            objects.append(.init(name: entry.name, path: entry.path, location: try end(&archive, in: 0)))
        }
        return .init(
            items: parts.map { .init(tensor: tensors[$0.tensor].name, byteCount: $0.part.byteCount) },
            notes: StateNode.losses(of: structure, in: .flattened(isTerminal: FlattenedState.isTerminal)))
    }

    private static let archivePrefix = "archive"

    private func openFiles() throws(CairnError) {
        var sizes = [Int](repeating: 1 << 16, count: fileCount)
        for (_, part) in parts { sizes[part.file] += part.byteCount + 2048 }
        for index in 0..<fileCount {
            let name = "__\(index)_0.distcp"
            files.append(File(name: name, writer: try storage.createStreamed(prefix + name, byteCount: sizes[index])))
        }
    }

    /// Refuses to mix with a checkpoint that is there, or removes it.
    private func makeRoom() throws(CairnError) {
        let names = try storage.list(prefix).map { String($0.key.dropFirst(prefix.count)) }.filter { name in
            name == DistributedCheckpointReader.metadataName || name.hasSuffix(".distcp")
                || DistributedCheckpointReader.rank(ofMetadata: name) != nil
        }
        guard let first = names.first else { return }
        guard replaces else {
            throw CairnError(
                .alreadyExists, "there is a checkpoint, or part of one",
                .init(
                    file: storage.location(of: prefix + first), advice: "choose another directory, or allow replacing it"))
        }
        // The metadata first: without them the rest is not a checkpoint.
        try storage.delete(names.filter { $0.hasSuffix(DistributedCheckpointReader.metadataName) }.map { prefix + $0 })
        try storage.delete(names.map { prefix + $0 })
    }

    package func beginItem(_ item: Int) throws {
        let (tensor, part) = parts[item]
        var description = tensors[tensor].description
        description.shape = part.region.shape
        var archive = try TorchArchiveWriter(
            files[part.file].writer, at: files[part.file].offset, prefix: Self.archivePrefix,
            pickle: StatePickle.bytes(
                of: .tensor(description.name), tensors: [.init(description: description, storage: 0)]))
        try archive.beginStorage(byteCount: part.byteCount)
        self.archive = archive
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws { try archive?.append(bytes) }

    package func endItem(_ item: Int) throws {
        guard var archive else { return }
        self.archive = nil
        let (tensor, part) = parts[item]
        tensors[tensor].pieces.append((part.region, try end(&archive, in: part.file)))
    }

    /// Ends an item of a file; where it is.
    private func end(_ archive: inout TorchArchiveWriter, in file: Int) throws(CairnError) -> DistributedMetadata.Location {
        let byteCount = try archive.finish()
        let location = DistributedMetadata.Location(
            file: files[file].name, offset: files[file].offset, byteCount: byteCount)
        files[file].offset += byteCount
        if fileCount > 1 { files[file].writer.pause() }
        return location
    }

    package func close() throws {
        try addTies()
        for file in files {
            published.append(prefix + file.name)
            try file.writer.finish(byteCount: file.offset)
        }
        let key = prefix + DistributedCheckpointReader.metadataName
        published.append(key)
        // Readers that know of ties take the name that comes first for the one that is kept.
        let kept = tensors.filter { $0.description.tiedTo == nil }, tied = tensors.filter { $0.description.tiedTo != nil }
        try storage.publish(MetadataPickle.bytes(kept + tied, objects), as: key)
    }

    /// Gives tied tensors the items of those that they are tied to.
    private func addTies() throws(CairnError) {
        var pieces: [ExactString: [(region: Region, location: DistributedMetadata.Location)]] = [:]
        for tensor in tensors where tensor.description.tiedTo == nil {
            pieces[ExactString(tensor.description.name)] = tensor.pieces
        }
        for index in tensors.indices {
            guard let kept = tensors[index].description.tiedTo else { continue }
            guard let found = pieces[ExactString(kept)] else {
                throw CairnError(
                    .invalidArgument, "the tensor that this one is tied to is not written",
                    .init(tensor: tensors[index].name, expected: kept))
            }
            tensors[index].pieces = found
        }
    }

    package func abandon() {
        for file in files { file.writer.discard() }
        // Not synced; files that stay are not a checkpoint without the metadata.
        try? storage.delete(published)
    }
}
