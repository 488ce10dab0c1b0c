import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as the safetensors shards of torch.distributed.checkpoint (`HuggingFaceStorageWriter` with
/// `save_distributed`): one file a rank, each of which says where in the whole its parts begin.
///
/// Tensors are sharded along their first dimension. Values and ties, which the format does not know, go into the first
/// file's metadata as ``SafeTensorsWriter`` puts them there. The files get their names together, when all are whole.
public final class ShardedSafeTensorsWriter: TensorStreamWriter {
    /// Data begins at a multiple of this, so that mapped tensors are aligned for vector instructions.
    private static let alignment = 64

    private let storage: any Storage
    private let prefix: String
    private let fileCount: Int
    private let replaces: Bool

    /// A part of a tensor and where its bytes go.
    private struct StoredRange {
        var name: String
        var file: Int
        var offset: Int
        var byteCount: Int
    }

    private struct File {
        var key: String
        var writer: any StorageWriter
        var byteCount: Int
    }

    private var files: [File] = []
    /// In the order in which the bytes come.
    private var ranges: [StoredRange] = []
    private var published: [String] = []
    package var stream = TensorStream()
    package var destination: String { storage.location(of: prefix) }

    /// Prepares to write files whose keys begin with `prefix`; nothing happens before it begins.
    ///
    /// - Parameters:
    ///   - fileCount: Over how many files the tensors are sharded.
    ///   - replaces: Whether shards may be there. They are deleted at the beginning.
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

    /// Plans the files and writes their headers.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for what no header can hold.
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        let stored = tensors.filter { $0.tiedTo == nil }
        let notes = try SafeTensorsNotes(tensors: tensors, values: values)
        var members = [[(entry: SafeTensorsHeader.Entry, offsets: [Int], order: Int)]](repeating: [], count: fileCount)
        var order = 0
        for (index, tensor) in stored.enumerated() {
            var parts = try FileSharding(tensor, fileCount: fileCount, whole: index % fileCount).parts
            if parts.isEmpty {
                // Without elements, but it has a name, a type and a shape.
                parts = [.init(region: Region(whole: tensor.shape), file: index % fileCount, byteCount: 0)]
            }
            for part in parts {
                members[part.file].append(
                    (
                        .init(
                            name: tensor.name, scalarType: tensor.scalarType, shape: part.region.shape,
                            byteRange: 0..<part.byteCount),
                        part.region.offsets, order
                    ))
                ranges.append(StoredRange(name: tensor.name, file: part.file, offset: 0, byteCount: part.byteCount))
                order += 1
            }
        }
        try makeRoom()
        for file in 0..<fileCount { try openFile(file, members[file], notes: file == 0 ? notes : SafeTensorsNotes()) }
        return .init(
            items: ranges.map { .init(tensor: $0.name, byteCount: $0.byteCount) },
            notes: notes.sentences + StateNode.losses(of: structure, in: .flat))
    }

    private func openFile(
        _ file: Int, _ members: [(entry: SafeTensorsHeader.Entry, offsets: [Int], order: Int)], notes: SafeTensorsNotes
    ) throws(CairnError) {
        var entries: [SafeTensorsHeader.Entry] = []
        var sharding = JSONObject()
        var end = 0
        for member in members.sorted(by: { SafeTensorsPlan.precedes($0.entry, $1.entry) }) {
            var entry = member.entry
            entry.byteRange = end..<end + entry.byteRange.count
            end = entry.byteRange.upperBound
            ranges[member.order].offset = entry.byteRange.lowerBound
            entries.append(entry)
            let offsets = try Self.counts(member.offsets, entry)
            sharding[entry.name] = .object(["saved_offsets": .array(offsets.map { .integer(Int64($0)) })])
        }
        let texts: [(key: String, value: String)] = [
            (ShardedSafeTensors.informationKey, try SafeTensorsNotes.text(sharding)),
            (ShardedSafeTensors.versionKey, "1.0"), (ShardedSafeTensors.fileCountKey, String(fileCount)), ("format", "pt"),
        ]
        let header = try SafeTensorsHeader(entries: entries, metadata: texts + notes.metadata())
            .serialized(alignment: Self.alignment)
        for member in members { ranges[member.order].offset += header.count }
        let key = prefix + ShardedSafeTensors.fileName(shard: file + 1)
        let writer = try storage.createStreamed(key, byteCount: header.count + end)
        files.append(File(key: key, writer: writer, byteCount: header.count + end))
        try writer.write(header, at: 0)
    }

    /// PyTorch counts packed elements in pairs.
    private static func counts(_ offsets: [Int], _ entry: SafeTensorsHeader.Entry) throws(CairnError) -> [Int] {
        guard entry.scalarType == .f4, let last = offsets.last else { return offsets }
        return offsets.dropLast() + [last / 2]
    }

    private func makeRoom() throws(CairnError) {
        let old = try storage.list(prefix).map(\.key).filter { key in
            let name = key.dropFirst(prefix.count)
            return !name.contains("/") && (name.hasSuffix(".safetensors") || name.hasSuffix(".safetensors.index.json"))
        }
        guard let first = old.first else { return }
        guard replaces else {
            throw CairnError(
                .alreadyExists, "there is a checkpoint, or part of one",
                .init(file: storage.location(of: first), advice: "choose another directory, or allow replacing it"))
        }
        try storage.delete(old)
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws {
        try files[ranges[item].file].writer.write(bytes, at: ranges[item].offset + offset)
    }

    package func endItem(_ item: Int) throws {
        if fileCount > 1 { files[ranges[item].file].writer.pause() }
    }

    package func close() throws {
        for file in files {
            published.append(file.key)
            try file.writer.finish(byteCount: file.byteCount)
        }
    }

    package func abandon() {
        for file in files { file.writer.discard() }
        try? storage.delete(published)
    }
}
