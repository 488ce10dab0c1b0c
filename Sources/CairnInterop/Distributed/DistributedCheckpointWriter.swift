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
public final class DistributedCheckpointWriter: CheckpointWriter {
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
    /// Where in ``tensors`` those are whose bytes come, and the parts of each.
    private var stored: [(tensor: Int, parts: [FileSharding.Part])] = []
    /// The tensor and the part that come next, what is being written of it, and how many bytes of it have come.
    private var position = 0
    private var part = 0
    private var item: TorchArchiveWriter?
    private var byteCount = 0
    /// Files that are there under their names, until the whole checkpoint is.
    private var published: [String] = []
    private var isFinished = false

    /// Prepares to write files whose keys begin with `prefix`, such as `step-400/`; nothing happens before
    /// ``begin(tensors:values:structure:)``.
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

    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try begin(tensors: tensors, values: values, structure: nil)
    }

    /// Plans the files and writes the values.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for tensors that PyTorch has no type
    ///   for.
    public func begin(
        tensors descriptions: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> [String] {
        guard files.isEmpty else { throw wrongOrder("begin") }
        let location = storage.location(of: prefix)
        let state = try FlattenedState(
            structure ?? StateNode(flat: descriptions, values: values), file: location)
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
            stored.append((index, try FileSharding(description, fileCount: fileCount, whole: index % fileCount).parts))
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
        try beginItem()
        return structure.map { StateLosses(of: $0, in: .flattened(isTerminal: FlattenedState.isTerminal)).notes } ?? []
    }

    private static let archivePrefix = "archive"

    private func openFiles() throws(CairnError) {
        var sizes = [Int](repeating: 1 << 16, count: fileCount)
        for part in stored.flatMap(\.parts) { sizes[part.file] += part.byteCount + 2048 }
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

    /// Begins the item of the next part that has bytes.
    private func beginItem() throws(CairnError) {
        while position < stored.count, part >= stored[position].parts.count {
            position += 1
            part = 0
        }
        guard position < stored.count else { return }
        let (tensor, parts) = stored[position]
        let next = parts[part]
        var description = tensors[tensor].description
        description.shape = next.region.shape
        var archive = try TorchArchiveWriter(
            files[next.file].writer, at: files[next.file].offset, prefix: Self.archivePrefix,
            pickle: StatePickle.bytes(
                of: .tensor(description.name), tensors: [.init(description: description, storage: 0)]))
        try archive.beginStorage(byteCount: next.byteCount)
        item = archive
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

    public func append(_ bytes: RawSpan) throws {
        guard !files.isEmpty, !isFinished else { throw wrongOrder("append") }
        var rest = 0..<bytes.byteCount
        while !rest.isEmpty {
            guard position < stored.count, var archive = item else {
                throw CairnError(.invalidArgument, "more bytes were written than the tensors have", .init(file: prefix))
            }
            let (tensor, parts) = stored[position]
            let current = parts[part]
            let count = min(rest.count, current.byteCount - byteCount)
            try archive.append(bytes.extracting(rest.lowerBound..<rest.lowerBound + count))
            item = archive
            byteCount += count
            rest = rest.lowerBound + count..<rest.upperBound
            if byteCount == current.byteCount {
                tensors[tensor].pieces.append((current.region, try end(&archive, in: current.file)))
                item = nil
                byteCount = 0
                part += 1
                try beginItem()
            }
        }
    }

    public func finish() throws {
        guard !files.isEmpty, !isFinished else { throw wrongOrder("finish") }
        guard position == stored.count else {
            throw CairnError(
                .incomplete, "not all bytes of a tensor were written",
                .init(file: prefix, tensor: tensors[stored[position].tensor].name))
        }
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
        published = []
        isFinished = true
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

    public func discard() {
        guard !isFinished else { return }
        isFinished = true
        item = nil
        for file in files { file.writer.discard() }
        // Not synced; files that stay are not a checkpoint without the metadata.
        try? storage.delete(published)
        published = []
    }

    private func wrongOrder(_ call: String) -> CairnError {
        CairnError(.invalidArgument, "\(call) was called before begin or after the end", .init(file: prefix))
    }
}
