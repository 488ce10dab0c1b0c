public import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as a `.npz` file that `np.load` reads.
///
/// Each tensor is an array under its name, uncompressed and aligned for mapping; values are arrays too where NumPy has
/// a type for them, and text otherwise. What NumPy's format cannot tell (types of machine learning, packed elements,
/// which arrays are values) is remarked in the zip directory, where ``NumPyReader`` finds it again.
public final class NumPyWriter: TensorStreamWriter {
    private let storage: any Storage
    private let key: String
    private let replaces: Bool
    private var writer: (any StorageWriter)?
    private var zip: ZipLayout?
    /// The headers of the tensors' arrays, in the order in which tensors come.
    private var headers: [[UInt8]] = []
    /// Which record each of them is.
    private var firstRecord = 0
    package var stream = TensorStream()
    package var destination: String { storage.location(of: key) }

    /// Prepares to write to `key`, which nothing happens to before it begins.
    ///
    /// - Parameter replaces: Whether a file of that name may be there; it is replaced as a whole at the end.
    public init(storage: any Storage, key: String, replaces: Bool = false) {
        self.storage = storage
        self.key = key
        self.replaces = replaces
    }

    /// Prepares to write to a plain path.
    public convenience init(path: String, replaces: Bool = false) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        self.init(storage: storage, key: key, replaces: replaces)
    }

    deinit { discard() }

    /// Writes the values and makes room for the tensors.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` for names that are too long.
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        if !replaces { try storage.refuseExisting(key) }
        let plan = try NumPyPlan(tensors: tensors, values: values, file: key)
        var zip = try ZipLayout(plan.records, file: key)
        let writer = try storage.createStreamed(key, byteCount: zip.byteCount)
        self.writer = writer
        for (index, bytes) in plan.values.enumerated() {
            zip.setChecksum(CRC32.checksum(bytes.span.bytes), of: index)
            try writer.write(zip.header(of: index), at: zip.records[index].headerOffset)
            try writer.write(bytes, at: zip.records[index].dataOffset)
        }
        headers = plan.headers
        firstRecord = plan.values.count
        self.zip = zip
        return .init(tensors: tensors, notes: plan.notes + StateNode.losses(of: structure, in: .flat))
    }

    /// Writes the header of the array.
    package func beginItem(_ item: Int) throws {
        guard let writer, let record = zip?.records[firstRecord + item] else { return }
        let header = headers[item]
        try writer.write(header, at: record.dataOffset)
        zip?.setChecksum(CRC32.checksum(header.span.bytes), of: firstRecord + item)
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws {
        guard let writer, let record = zip?.records[firstRecord + item] else { return }
        try writer.write(bytes, at: record.dataOffset + headers[item].count + offset)
        let sum = CRC32.combine(record.checksum, CRC32.checksum(bytes), secondByteCount: bytes.byteCount)
        // In place: a copy of all records for each tensor would be quadratic.
        zip?.setChecksum(sum, of: firstRecord + item)
    }

    package func endItem(_ item: Int) throws {
        guard let writer, let zip else { return }
        let index = firstRecord + item
        try writer.write(zip.header(of: index), at: zip.records[index].headerOffset)
    }

    package func close() throws {
        guard let writer, let zip else { return }
        let end = zip.end
        try writer.write(end.bytes, at: end.offset)
        try writer.finish(byteCount: zip.byteCount)
    }

    package func abandon() { writer?.discard() }
}

/// Writes the one tensor of a checkpoint as a `.npy` file.
public final class NumPyArrayWriter: TensorStreamWriter {
    private let storage: any Storage
    private let key: String
    private let replaces: Bool
    private var writer: (any StorageWriter)?
    private var headerByteCount = 0
    private var byteCount = 0
    package var stream = TensorStream()
    package var destination: String { storage.location(of: key) }

    /// Prepares to write to `key`, which nothing happens to before it begins.
    ///
    /// - Parameter replaces: Whether a file of that name may be there; it is replaced as a whole at the end.
    public init(storage: any Storage, key: String, replaces: Bool = false) {
        self.storage = storage
        self.key = key
        self.replaces = replaces
    }

    /// Prepares to write to a plain path.
    public convenience init(path: String, replaces: Bool = false) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        self.init(storage: storage, key: key, replaces: replaces)
    }

    deinit { discard() }

    /// - Throws: ``CairnError/Code/alreadyExists``; ``CairnError/Code/unsupported`` when there are several tensors or
    ///   the one is of a type that NumPy does not have.
    package func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        let stored = tensors.filter { $0.tiedTo == nil }
        guard stored.count == 1, let tensor = stored.first else {
            throw CairnError(
                .unsupported, "a .npy file holds one tensor",
                .init(file: key, found: "\(stored.count)", advice: "choose one with --include, or write npz"))
        }
        guard let code = NumPyType.code(of: tensor.scalarType) else {
            throw CairnError(
                .unsupported, "NumPy does not have the type of the tensor",
                .init(
                    file: key, tensor: tensor.name, found: "\(tensor.scalarType)",
                    advice: "convert it with --dtype, or write npz"))
        }
        if !replaces { try storage.refuseExisting(key) }
        let header = NumPyPlan.header(code, tensor.shape.extents)
        byteCount = header.count + tensor.byteCount
        let writer = try storage.createStreamed(key, byteCount: byteCount)
        self.writer = writer
        try writer.write(header, at: 0)
        headerByteCount = header.count
        var notes = ["the tensor's name, \(tensor.name), is not kept"]
        let others = tensors.filter { $0.tiedTo != nil }.map(\.name) + values.map(\.name)
        if !others.isEmpty { notes.append("left out: \(others.joined(separator: ", "))") }
        return .init(tensors: tensors, notes: notes + StateNode.losses(of: structure, in: .flat))
    }

    package func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws {
        try writer?.write(bytes, at: headerByteCount + offset)
    }

    package func close() throws { try writer?.finish(byteCount: byteCount) }

    package func abandon() { writer?.discard() }
}
