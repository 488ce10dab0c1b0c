public import CairnBase
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as one safetensors file, or as several with an index, named as Hugging Face's tools do.
///
/// Tensors are written to their final places as they come, so nothing is held in memory. Values and ties, which the
/// format does not know, go into the first file's metadata as text that ``SafeTensorsReader`` reads back exactly.
///
/// Every file appears under its name when it is whole and durable. The last one and then the index are written by
/// ``finish()``, so that until then neither readers nor a later run can take what is there for a checkpoint.
public final class SafeTensorsWriter: CheckpointWriter {
    /// Data begins at a multiple of this, so that mapped tensors are aligned for vector instructions.
    private static let alignment = 64

    /// What goes into every file beside the tensors. Transformers refuses files that do not say which framework's
    /// tensors they hold.
    public static let defaultMetadata = ["format": "pt"]

    private let storage: any Storage
    private let key: String
    private let maximumShardByteCount: Int?
    private let metadata: [String: String]
    private let replaces: Bool

    private var plan: SafeTensorsPlan?
    private var keys: [String] = []
    private var headers: [[UInt8]] = []
    private var current: (file: Int, writer: any StorageWriter)?
    /// Files that are there under their names, until the whole checkpoint is.
    private var published: [String] = []
    /// The tensor that comes next and how many of its bytes have come.
    private var position = 0
    private var byteCount = 0
    private var isFinished = false

    /// Prepares to write to `key`, which nothing happens to before ``begin(tensors:values:)``.
    ///
    /// - Parameters:
    ///   - key: The file's name, such as `model.safetensors`. Several files are named after it
    ///     (`model-00001-of-00003.safetensors`, `model.safetensors.index.json`).
    ///   - maximumShardByteCount: How many bytes of tensors a file may hold; one that is larger gets a file of its own.
    ///     What fits into one file becomes one, without an index. `nil` always writes one file.
    ///   - metadata: Text for every file.
    ///   - replaces: Whether a checkpoint of that name may be there. One file is replaced as a whole when it is
    ///     finished; where several are involved, the old ones are deleted at the beginning.
    public init(
        storage: any Storage, key: String, maximumShardByteCount: Int? = nil,
        metadata: [String: String] = SafeTensorsWriter.defaultMetadata, replaces: Bool = false
    ) {
        self.storage = storage
        self.key = key
        self.maximumShardByteCount = maximumShardByteCount
        self.metadata = metadata
        self.replaces = replaces
    }

    /// Prepares to write to a plain path: a file if it ends with `.safetensors`, else a directory in which
    /// `model.safetensors` is written.
    public convenience init(
        path: String, maximumShardByteCount: Int? = nil,
        metadata: [String: String] = SafeTensorsWriter.defaultMetadata, replaces: Bool = false
    ) throws(CairnError) {
        let isFile = path.hasSuffix(SafeTensorsShardName.fileExtension)
        let (storage, key) =
            isFile
            ? try LocalStorage.locate(path) : (LocalStorage(root: path), "model" + SafeTensorsShardName.fileExtension)
        self.init(
            storage: storage, key: key, maximumShardByteCount: maximumShardByteCount, metadata: metadata,
            replaces: replaces)
    }

    deinit { discard() }

    /// Plans the files, and makes room where an old checkpoint is to be replaced.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for what no header can hold.
    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        guard plan == nil else { throw CairnError(.invalidArgument, "the writer has begun before", .init(file: key)) }
        let stored = tensors.filter { $0.tiedTo == nil }
        let plan = try SafeTensorsPlan(stored, maximumByteCount: maximumShardByteCount)
        var notes = SafeTensorsNotes()
        notes.values = values
        let names = Set(stored.map { ExactString($0.name) })
        for tensor in tensors {
            guard let kept = tensor.tiedTo else { continue }
            guard names.contains(ExactString(kept)) else {
                throw CairnError(
                    .invalidArgument, "the tensor that this one is tied to is not written",
                    .init(file: key, tensor: tensor.name, expected: kept))
            }
            notes.ties.append((tensor.name, kept))
        }
        let texts = metadata.sorted { ExactString($0.key) < ExactString($1.key) }.map { (key: $0.key, value: $0.value) }
        for (index, entries) in plan.files.enumerated() {
            let own = index == 0 ? try notes.metadata() : []
            let header = SafeTensorsHeader(entries: entries, metadata: texts + own)
            do throws(CairnError) {
                headers.append(try header.serialized(alignment: Self.alignment))
            } catch {
                throw error.adding(.init(file: key))
            }
        }
        keys = plan.files.count == 1 ? [key] : (1...plan.files.count).map { shardKey($0, of: plan.files.count) }
        try makeRoom()
        self.plan = plan
        try openNextFiles()
        return Self.sentences(notes)
    }

    public func append(_ bytes: RawSpan) throws {
        guard let plan, !isFinished else { throw wrongOrder("append") }
        var rest = 0..<bytes.byteCount
        while !rest.isEmpty {
            guard position < plan.places.count, let current else {
                throw CairnError(
                    .invalidArgument, "more bytes were written than the tensors have", .init(file: key))
            }
            let place = plan.places[position]
            let count = min(rest.count, place.byteRange.count - byteCount)
            let offset = headers[place.file].count + place.byteRange.lowerBound + byteCount
            try current.writer.write(bytes.extracting(rest.lowerBound..<rest.lowerBound + count), at: offset)
            byteCount += count
            rest = rest.lowerBound + count..<rest.upperBound
            if byteCount == place.byteRange.count {
                position += 1
                byteCount = 0
                try openNextFiles()
            }
        }
    }

    public func finish() throws {
        guard let plan, !isFinished else { throw wrongOrder("finish") }
        guard position == plan.places.count else {
            throw CairnError(
                .incomplete, "not all bytes of a tensor were written",
                .init(file: key, tensor: plan.places[position].name))
        }
        try finishFile()
        if keys.count > 1 {
            let total = plan.files.reduce(0) { $0 + ($1.last?.byteRange.upperBound ?? 0) }
            let shards = plan.places.map { (tensor: $0.name, file: Self.lastComponent(keys[$0.file])) }
            published.append(indexKey)
            try storage.publish(SafeTensorsIndex.serialized(shards, totalByteCount: total), as: indexKey)
        }
        published = []
        isFinished = true
    }

    public func discard() {
        current?.writer.discard()
        current = nil
        guard !isFinished else { return }
        isFinished = true
        // Nobody waits for this; shards that stay are no checkpoint without the last one.
        try? storage.delete(published)
        published = []
    }

    /// Passes over tensors without bytes, finishes files that are complete and opens the one that the next tensor goes
    /// to.
    private func openNextFiles() throws {
        guard let plan else { return }
        while position < plan.places.count, plan.places[position].byteRange.isEmpty { position += 1 }
        let file = position < plan.places.count ? plan.places[position].file : plan.files.count - 1
        while current.map({ $0.file < file }) ?? true {
            let next = current.map { $0.file + 1 } ?? 0
            try finishFile()
            let total = headers[next].count + (plan.files[next].last?.byteRange.upperBound ?? 0)
            let writer = try storage.create(keys[next], byteCount: total)
            current = (next, writer)
            try writer.write(headers[next], at: 0)
        }
    }

    private func finishFile() throws {
        guard let plan, let (file, writer) = current else { return }
        // Noted before: an error may come after the file got its name.
        published.append(keys[file])
        try writer.finish(byteCount: headers[file].count + (plan.files[file].last?.byteRange.upperBound ?? 0))
        current = nil
    }
}

extension SafeTensorsWriter {
    private var stemKey: String {
        key.hasSuffix(SafeTensorsShardName.fileExtension)
            ? String(key.dropLast(SafeTensorsShardName.fileExtension.count)) : key
    }

    private var indexKey: String { stemKey + SafeTensorsShardName.indexExtension }

    private func shardKey(_ number: Int, of count: Int) -> String {
        SafeTensorsShardName(stem: stemKey, number: number, count: count).name
    }

    private static func lastComponent(_ key: String) -> String {
        key.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(key[key.utf8.index(after: $0)...]) } ?? key
    }

    /// Refuses to mix with a checkpoint that is there, or removes it if it cannot be replaced by one rename.
    private func makeRoom() throws {
        let stem = ExactString(stemKey)
        let old = try storage.list(stemKey).map(\.key).filter { name in
            if ExactString(name) == ExactString(key) || ExactString(name) == ExactString(indexKey) { return true }
            return SafeTensorsShardName(name).map { ExactString($0.stem) == stem } ?? false
        }
        guard let first = old.first else { return }
        guard replaces else {
            throw CairnError(
                .alreadyExists, "there is a checkpoint of this name, or part of one",
                .init(file: storage.place(of: first), advice: "choose another name, or allow replacing it"))
        }
        if keys.count == 1, old == [key] { return }
        // The index first: without it the rest is no checkpoint.
        try storage.delete(old.filter { ExactString($0) == ExactString(indexKey) })
        try storage.delete(old)
    }

    private static func sentences(_ notes: SafeTensorsNotes) -> [String] {
        var sentences = notes.ties.map { tie in
            "\"\(tie.name)\" is \"\(tie.kept)\" under another name and stored once; other readers will not see it"
        }
        if !notes.values.isEmpty {
            let count = notes.values.count
            sentences.append(
                count == 1
                    ? "\"\(notes.values[0].name)\" is no tensor and kept as text that other readers will not understand"
                    : "\(count) values are no tensors and kept as text that other readers will not understand")
        }
        return sentences
    }

    private func wrongOrder(_ call: String) -> CairnError {
        CairnError(.invalidArgument, "\(call) was called before begin or after the end", .init(file: key))
    }
}
