public import CairnBase
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as one safetensors file, or as several with an index, named as Hugging Face's tools do.
///
/// Tensors are written to their final places as they come, so nothing is held in memory. Values and ties, which the
/// format does not know, go into the first file's metadata as text that ``SafeTensorsReader`` reads back exactly.
///
/// Every file appears under its name when it is whole and durable. The last one and then the index are written by
/// ``CheckpointWriter/finish()``, so that until then neither readers nor a later run can take what is there for a checkpoint.
public final class SafeTensorsWriter: TensorStreamWriter {
    /// Data begins at a multiple of this, so that mapped tensors are aligned for vector instructions.
    private static let alignment = 64

    /// What goes into every file beside the tensors. Transformers refuses files that do not say which framework's
    /// tensors they hold.
    @usableFromInline package static let defaultMetadata = ["format": "pt"]

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
    /// Whether the one file takes the place of another one: what has its name then is whole, and all that there is.
    private var replacesFile = false
    package var stream = TensorStream()
    package var destination: String { storage.location(of: key) }

    /// What tells this conversion from others, for one into several files that may be interrupted: then the finished
    /// files stay, are not a checkpoint without the index, and a writer with the same text continues after them. Set it
    /// before ``begin(tensors:values:)``.
    package var continuation: String?

    public func continueInterrupted(as identity: () throws -> String) throws { continuation = try identity() }
    public private(set) var resumedTensorCount = 0
    private var journal: ShardJournal?
    /// The checksums of the tensors of the current file, and of what has come of the current tensor.
    private var checksums: [UInt32] = []
    private var checksum: UInt32 = 0

    /// Prepares to write to `key`, which nothing happens to before it begins.
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
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        let stored = tensors.filter { $0.tiedTo == nil }
        let plan = try SafeTensorsPlan(stored, maximumByteCount: maximumShardByteCount)
        let notes: SafeTensorsNotes
        do throws(CairnError) {
            notes = try SafeTensorsNotes(tensors: tensors, values: values)
        } catch {
            throw error.adding(.init(file: key))
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
        let finished = try finishedFileCount(plan)
        try makeRoom(keeping: finished)
        self.plan = plan
        published = Array(keys.prefix(finished))
        resumedTensorCount = plan.ranges.firstIndex { $0.file >= finished } ?? plan.ranges.count
        try openFile(finished)
        var items = TensorStream.Plan(
            tensors: tensors, notes: notes.sentences + StateNode.losses(of: structure, in: .flat))
        items.resumedCount = resumedTensorCount
        return items
    }

    /// Opens the file of the item, and finishes those before it.
    package func beginItem(_ item: Int) throws {
        guard let plan, let file = current?.file, !plan.ranges[item].byteRange.isEmpty else { return }
        for next in file..<max(file, plan.ranges[item].file) {
            try finishFile()
            try openFile(next + 1)
        }
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws {
        guard let plan, let current else { return }
        let range = plan.ranges[item]
        try current.writer.write(bytes, at: headers[range.file].count + range.byteRange.lowerBound + offset)
        if journal != nil { checksum = CRC32C.checksum(bytes, continuing: checksum) }
    }

    package func endItem(_ item: Int) throws {
        checksums.append(checksum)
        checksum = 0
    }

    package func close() throws {
        guard let plan else { return }
        // Files behind the last element: of tensors without any.
        while let file = current?.file, file < plan.files.count - 1 {
            try finishFile()
            try openFile(file + 1)
        }
        try finishFile()
        if keys.count > 1 {
            let total = plan.files.reduce(0) { $0 + ($1.last?.byteRange.upperBound ?? 0) }
            let shards = plan.ranges.map { (tensor: $0.name, file: Self.lastComponent(keys[$0.file])) }
            published.append(indexKey)
            try storage.publish(SafeTensorsIndex.serialized(shards, totalByteCount: total), as: indexKey)
        }
        if journal != nil { try storage.delete([journalKey]) }
    }

    package func abandon() {
        current?.writer.discard()
        // What a later conversion continues from.
        if journal != nil, !published.isEmpty { return }
        // Not synced; shards that stay are not a checkpoint without the last one.
        try? storage.delete(published)
    }

    private func openFile(_ file: Int) throws {
        guard let plan else { return }
        let total = headers[file].count + (plan.files[file].last?.byteRange.upperBound ?? 0)
        let writer = try storage.createStreamed(keys[file], byteCount: total)
        current = (file, writer)
        try writer.write(headers[file], at: 0)
    }

    private func finishFile() throws {
        guard let plan, let (file, writer) = current else { return }
        // Noted before: an error may come after the file got its name.
        if !replacesFile { published.append(keys[file]) }
        try writer.finish(byteCount: headers[file].count + (plan.files[file].last?.byteRange.upperBound ?? 0))
        current = nil
        guard var journal else { return }
        // Checksums of tensors of the next file may have come already: those without bytes.
        let count = plan.ranges.count { $0.file == file }
        journal.shards.append(
            .init(header: Self.checksum(headers[file]), tensors: Array(checksums.prefix(count))))
        checksums.removeFirst(min(count, checksums.count))
        self.journal = journal
        if file < plan.files.count - 1 { try storage.publish(journal.serialized, as: journalKey) }
    }

    // MARK: Going on

    private static func checksum(_ bytes: [UInt8]) -> UInt32 { CRC32C.checksum(bytes.span.bytes) }

    private var journalKey: String { stemKey + ShardJournal.fileExtension }

    /// How many files an interrupted conversion of the same has finished that still are what was written.
    private func finishedFileCount(_ plan: SafeTensorsPlan) throws -> Int {
        guard let continuation, keys.count > 1 else { return 0 }
        var journal = ShardJournal(identity: continuation)
        defer { self.journal = journal }
        guard let old = try ShardJournal(reading: journalKey, from: storage), old.identity == continuation else {
            return 0
        }
        for (file, shard) in old.shards.enumerated().prefix(keys.count - 1) {
            guard try isWhole(file, shard, plan) else { break }
            journal.shards.append(shard)
        }
        return journal.shards.count
    }

    private func isWhole(_ file: Int, _ shard: ShardJournal.Shard, _ plan: SafeTensorsPlan) throws -> Bool {
        guard try storage.list(keys[file]).contains(where: { ExactString($0.key) == ExactString(keys[file]) }) else {
            return false
        }
        let stored = try storage.open(keys[file])
        let ranges = plan.ranges.filter { $0.file == file }
        let end = headers[file].count + (plan.files[file].last?.byteRange.upperBound ?? 0)
        guard stored.byteCount == end, shard.tensors.count == ranges.count,
            Self.checksum(headers[file]) == shard.header,
            try stored.bytes(in: 0..<headers[file].count) == headers[file]
        else { return false }
        for (range, expected) in zip(ranges, shard.tensors) {
            var found: UInt32 = 0
            for begin in stride(from: range.byteRange.lowerBound, to: range.byteRange.upperBound, by: 4 << 20) {
                let end = min(begin + 4 << 20, range.byteRange.upperBound)
                let bytes = try stored.bytes(in: headers[file].count + begin..<headers[file].count + end)
                found = CRC32C.checksum(bytes.span.bytes, continuing: found)
            }
            guard found == expected else { return false }
        }
        return true
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

    /// Refuses to mix with a checkpoint that is there, or removes it if it cannot be replaced by one rename. What an
    /// interrupted conversion left is not a checkpoint, and goes unless it is used.
    private func makeRoom(keeping finished: Int) throws {
        try removeInterrupted(keeping: finished)
        let kept = Set(keys.prefix(finished).map { ExactString($0) })
        let stem = ExactString(stemKey)
        let old = try storage.list(stemKey).map(\.key).filter { name in
            if ExactString(name) == ExactString(key) || ExactString(name) == ExactString(indexKey) { return true }
            guard !kept.contains(ExactString(name)) else { return false }
            return SafeTensorsShardName(name).map { ExactString($0.stem) == stem } ?? false
        }
        guard let first = old.first else { return }
        guard replaces else {
            throw CairnError(
                .alreadyExists, "there is a checkpoint of this name, or part of one",
                .init(file: storage.location(of: first), advice: "choose another name, or allow replacing it"))
        }
        if keys.count == 1, old == [key] {
            replacesFile = true
            return
        }
        // The index first: without it the rest is not a checkpoint.
        try storage.delete(old.filter { ExactString($0) == ExactString(indexKey) })
        try storage.delete(old)
    }

    /// Removes the files that a journal lists, and the journal itself, but for those that are used.
    private func removeInterrupted(keeping finished: Int) throws {
        guard continuation != nil, let old = try ShardJournal(reading: journalKey, from: storage) else { return }
        let used = Set(keys.prefix(finished).map { ExactString($0) })
        let stem = ExactString(stemKey)
        // Without an index, with a journal: not a checkpoint.
        let names = try storage.list(stemKey).map(\.key)
        guard !names.contains(where: { ExactString($0) == ExactString(indexKey) }) else { return }
        let left = names.filter { name in
            guard !used.contains(ExactString(name)), let shard = SafeTensorsShardName(name) else { return false }
            return ExactString(shard.stem) == stem && shard.number <= old.shards.count + 1
        }
        try storage.delete(left + (finished == 0 ? [journalKey] : []))
    }
}
