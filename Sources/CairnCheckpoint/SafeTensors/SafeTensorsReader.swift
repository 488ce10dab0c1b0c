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
        let index = try SafeTensorsIndex(reading: key, from: storage)
        let directory = key.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(key[...$0]) } ?? ""
        var shards: [SafeTensorsShard] = []
        var positions: [ExactString: Int] = [:]
        var expected: [Set<ExactString>] = []
        for entry in index.shards {
            let file = ExactString(entry.file)
            if positions[file] == nil {
                positions[file] = shards.count
                expected.append([])
                shards.append(try SafeTensorsShard(opening: directory + entry.file, of: storage, namedBy: key))
            }
            if let position = positions[file] { expected[position].insert(ExactString(entry.tensor)) }
        }
        for (shard, names) in zip(shards, expected) { try shard.check(holdsJust: names, accordingTo: key) }
        shards.sort { ExactString($0.key) < ExactString($1.key) }
        try self.init(shards, notes: index.metadata, source: source ?? key)
    }

    /// Opens several files as one checkpoint.
    ///
    /// - Throws: As ``init(storage:file:source:)``, and ``CairnError/Code/mismatch`` when two hold a tensor of
    ///   the same name.
    public convenience init(storage: any Storage, files keys: [String], source: String) throws(CairnError) {
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
