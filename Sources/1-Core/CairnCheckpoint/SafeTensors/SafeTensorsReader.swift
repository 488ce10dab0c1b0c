public import CairnBase
public import CairnStorage
public import CairnTensor
import Synchronization

/// A checkpoint of one safetensors file, or of several with or without an index.
///
/// Opening reads the headers only. Text in the files' `__metadata__` is in ``metadata``; ``values`` and ties are there
/// when ``SafeTensorsWriter`` wrote them. Checksums there are none in the format: damaged elements go unnoticed.
public final class SafeTensorsReader: CheckpointReader {
    public let format = "safetensors"
    public let source: String
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    /// What the files and the index say besides, sorted by the bytes of the keys; of a key that several have, the
    /// index's text, then that of the first file.
    public let metadata: [NamedValue]

    /// Parallel to `tensors`; those of a tie and of the tensor it is tied to are the same.
    private let stored: [FileTensor]
    private let mappings = Mutex<[ObjectIdentifier: MemoryMapping]>([:])

    /// Opens the file at `key`.
    ///
    /// - Parameter source: What messages call the checkpoint instead of `key`.
    /// - Throws: ``CairnError/Code/notFound``, ``CairnError/Code/malformed`` for a file that does not follow the
    ///   format, ``CairnError/Code/incomplete`` for one that was cut short, ``CairnError/Code/unsupported`` for an
    ///   unknown type.
    public convenience init(storage: any Storage, file key: String, source: String? = nil) throws(CairnError) {
        let shard = try SafeTensorsShard(opening: key, of: storage)
        try self.init([shard], notes: [], source: source ?? key)
    }

    /// Opens the files that the index at `key` names, which are beside or below it.
    ///
    /// Index and files must agree in both directions.
    ///
    /// - Parameter source: What messages call the checkpoint instead of `key`.
    /// - Throws: As ``init(storage:file:source:)``, and ``CairnError/Code/incomplete`` when a file or a tensor in it is
    ///   missing, ``CairnError/Code/mismatch`` when a file holds a tensor that the index does not place there.
    public convenience init(storage: any Storage, index key: String, source: String? = nil) throws(CairnError) {
        try self.init(storage: storage, index: key, source: source, missing: MissingShards(isTolerated: false))
    }

    /// The same, of the files that are there if others may be missing.
    convenience init(
        storage: any Storage, index key: String, source: String? = nil, missing: MissingShards
    ) throws(CairnError) {
        let index = try SafeTensorsIndex(reading: key, from: storage)
        let directory = key.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(key[...$0]) } ?? ""
        var shards: [SafeTensorsShard] = []
        var positions: [ExactString: Int] = [:]
        var gone: Set<ExactString> = []
        var expected: [Set<ExactString>] = []
        for entry in index.shards {
            let file = ExactString(entry.file)
            if positions[file] == nil, !gone.contains(file) {
                do throws(CairnError) {
                    shards.append(try SafeTensorsShard(opening: directory + entry.file, of: storage, namedBy: key))
                    positions[file] = shards.count - 1
                    expected.append([])
                } catch {
                    guard missing.isTolerated, error.code.isDamage else { throw error }
                    gone.insert(file)
                }
            }
            if gone.contains(file) { missing.add(entry.tensor) }
            if let position = positions[file] { expected[position].insert(ExactString(entry.tensor)) }
        }
        guard !shards.isEmpty || gone.isEmpty else {
            throw CairnError(
                .incomplete, "none of the files that the index names is there",
                .init(file: source ?? key, expected: index.shards[0].file))
        }
        for (shard, names) in zip(shards, expected) { try shard.check(holdsJust: names, accordingTo: key) }
        shards.sort { ExactString($0.key) < ExactString($1.key) }
        try self.init(shards, notes: index.metadata, source: source ?? key)
    }

    /// Opens several files as one checkpoint.
    ///
    /// - Throws: As ``init(storage:file:source:)``, and ``CairnError/Code/mismatch`` when two hold a tensor of
    ///   the same name.
    package convenience init(storage: any Storage, files keys: [String], source: String) throws(CairnError) {
        var shards: [SafeTensorsShard] = []
        for key in keys { shards.append(try SafeTensorsShard(opening: key, of: storage)) }
        try self.init(shards, notes: [], source: source)
    }

    init(_ shards: [SafeTensorsShard], notes: [NamedValue], source: String) throws(CairnError) {
        var contents = SafeTensorsContents()
        for shard in shards { try contents.add(shard) }
        try contents.addTies(source: source)
        contents.sort()
        self.source = source
        tensors = contents.tensors.map(\.description)
        stored = contents.tensors.map(\.stored)
        values = contents.values
        metadata = contents.metadata(with: notes)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let position = try position(of: name)
        do throws(CairnError) {
            try stored[position].read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }

    /// The tensor over the mapped file, or `nil` where files cannot be mapped or the elements are not aligned in it.
    public func mapped(_ name: String) throws(CairnError) -> Tensor? {
        let entry = stored[try position(of: name)]
        let byteCount = try Tensor.byteCount(entry.scalarType, entry.shape)
        guard byteCount > 0 else { return try Tensor(zeros: entry.scalarType, entry.shape) }
        guard entry.byteOffset.isMultiple(of: entry.scalarType.byteWidth ?? 1),
            let mapping = try mapping(of: entry.file)
        else { return nil }
        guard entry.byteOffset + byteCount <= mapping.byteCount else {
            throw CairnError(
                .incomplete, "the file was cut short after it was opened", .init(file: source, tensor: name))
        }
        let bytes = UnsafeRawBufferPointer(start: mapping.baseAddress + entry.byteOffset, count: byteCount)
        return try Tensor(entry.scalarType, entry.shape, borrowing: bytes, keptAliveBy: mapping)
    }

    /// The file's one mapping, which lives as long as the reader or a tensor over it.
    private func mapping(of file: any StorageFile) throws(CairnError) -> MemoryMapping? {
        let id = ObjectIdentifier(file)
        if let mapping = mappings.withLock({ $0[id] }) { return mapping }
        guard let mapping = try file.map() else { return nil }
        return mappings.withLock { mappings in
            let first = mappings[id] ?? mapping
            mappings[id] = first
            return first
        }
    }

    private func position(of name: String) throws(CairnError) -> Int {
        try tensors.requiredPosition(of: name, in: source)
    }
}

extension SafeTensorsReader {
    /// Opens what is at a path: a safetensors file, an index (a name that ends with `.json`), or a directory.
    ///
    /// In a directory, the first of these that applies is opened; in every other case the caller must name a file:
    /// 1. its one `*.safetensors.index.json`;
    /// 2. its one `*.safetensors`;
    /// 3. all of its `*.safetensors`, when they are the files `STEM-00001-of-N` to `STEM-N-of-N` of one stem.
    ///
    /// - Throws: As ``init(storage:index:source:)``; ``CairnError/Code/invalidArgument`` when several files of a
    ///   directory could be meant, ``CairnError/Code/incomplete`` when it lacks some of the files of rule 3.
    public convenience init(path: String) throws(CairnError) {
        try self.init(path: path, missing: MissingShards(isTolerated: false))
    }

    /// The same, of the files that are there if others that an index names may be missing.
    convenience init(
        path: String, missing: MissingShards, reading: ReadingStorage? = nil
    ) throws(CairnError) {
        let directory = LocalStorage(root: path)
        if let names = try Self.names(in: directory) {
            try self.init(
                directory: directory, names: directory.names(names, readingThrough: reading), missing: missing,
                reading: reading)
            return
        }
        let (local, key) = try LocalStorage.locate(path)
        let storage = local.read(through: reading)
        if key.utf8.suffix(5).elementsEqual(".json".utf8) {
            try self.init(storage: storage, index: key, source: path, missing: missing)
        } else {
            try self.init(storage: storage, file: key, source: path)
        }
    }

    /// Opens the root of a storage as ``init(path:)`` opens a directory.
    package convenience init(directory storage: LocalStorage) throws(CairnError) {
        try self.init(
            directory: storage, names: Self.names(in: storage) ?? [], missing: MissingShards(isTolerated: false), reading: nil)
    }

    private convenience init(
        directory local: LocalStorage, names: [String], missing: MissingShards, reading: ReadingStorage?
    ) throws(CairnError) {
        let directory = local.root
        let storage = local.read(through: reading)
        let indexes = names.filter { $0.hasSuffix(SafeTensorsShardName.indexExtension) }
        let files = names.filter { $0.hasSuffix(SafeTensorsShardName.fileExtension) }
        if indexes.count == 1 {
            try self.init(storage: storage, index: indexes[0], source: directory, missing: missing)
        } else if indexes.count > 1 {
            throw Self.ambiguity(directory, "several safetensors indexes", indexes)
        } else if files.count == 1, SafeTensorsShardName(files[0]) == nil {
            try self.init(storage: storage, file: files[0], source: directory)
        } else if let first = files.first {
            try Self.checkShards(files, first: first, directory: directory)
            try self.init(storage: storage, files: files, source: directory)
        } else {
            throw CairnError(
                .notFound, "the directory holds no safetensors file", .init(file: directory))
        }
    }

    private static func checkShards(
        _ files: [String], first: String, directory: String
    ) throws(CairnError) {
        guard let shard = SafeTensorsShardName(first),
            files.allSatisfy({ name in
                guard let other = SafeTensorsShardName(name) else { return false }
                return ExactString(other.stem) == ExactString(shard.stem) && other.count == shard.count
            })
        else {
            throw ambiguity(directory, "several safetensors files and no index", files)
        }
        let present = Set(files.map(ExactString.init))
        guard files.count != shard.count else { return }
        // Some number up to one more than there are files is missing, however many the names promise.
        let missing = (1...files.count + 1).lazy.map { shard.sibling($0).name }
            .first { !present.contains(ExactString($0)) }
        throw CairnError(
            .incomplete, "a file of the checkpoint is missing",
            .init(file: directory, expected: missing, found: "\(files.count) of \(shard.count) files"))
    }

    private static func ambiguity(_ directory: String, _ problem: String, _ names: [String]) -> CairnError {
        let shown = names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", …" : "")
        return CairnError(
            .invalidArgument, "the directory holds " + problem,
            .init(file: directory, found: shown, advice: "name the one to open"))
    }

    /// The names in a storage's root, sorted; `nil` if that is not a directory or nothing.
    private static func names(in storage: LocalStorage) throws(CairnError) -> [String]? {
        let path = storage.root
        let fileSystem = storage.fileSystem
        do throws(SystemCallError) {
            let status = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.status(at: path) }
            guard status.kind == .directory else { return nil }
            let entries = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.entries(of: path) }
            return entries.map(\.name).sorted { ExactString($0) < ExactString($1) }
        } catch {
            if error.isMissing { return nil }
            throw error.explained("list", path)
        }
    }
}

extension SafeTensorsReader {
    public var skippedEntries: [String] { [rankFileNote].compactMap(\.self) }

    /// What a rank file has beside the tensors is no tensor.
    public var skippedTensorCount: Int { 0 }

    /// As for any file without checksums, but that a rank file of a checkpoint of ours has a checksum for each chunk.
    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        guard deep, rankFileNote != nil, let file = stored.first?.file else {
            return try verifyByReading(deep: deep, progress: progress)
        }
        let rankFile: RankFile
        do throws(CairnError) {
            rankFile = try RankFile.open(file, location: source, expected: nil)
        } catch {
            var report = VerificationReport()
            report.fileCount = 1
            report.damages = [.init(error: error)]
            return report
        }
        var report = try rankFile.verifyChunks(progress: progress)
        report.fileCount = 1
        return report
    }

    /// What is not whole in a rank file of a checkpoint of ours that is opened by itself, in a sentence; `nil` for any other
    /// file.
    private var rankFileNote: String? {
        func text(_ key: String) -> String? {
            guard case .string(let text)? = metadata.first(where: { $0.name == key })?.value else { return nil }
            return text
        }
        guard text(RankFileMetadata.versionKey) != nil, let rank = text("cairn.rank"), let count = text("cairn.ranks") else {
            return nil
        }
        let described = text("cairn.fragments").flatMap { try? JSONValue(parsing: $0).asObject() } ?? JSONObject()
        func tensors(_ key: String) -> Int {
            described.members.count { member in (try? member.value.asObject())?[key] != nil }
        }
        var note =
            "this is the file of rank \(rank) of \(count) of a checkpoint of Cairn's, opened by itself: only a deep "
            + "verification compares its checksums"
        let (parts, compressed) = (tensors("shape"), tensors("codec"))
        if parts > 0 { note += "; of its \(self.tensors.count) tensors \(parts) are parts of larger ones" }
        if compressed > 0 { note += "; \(compressed) are compressed and seen as bytes" }
        return note
    }
}
