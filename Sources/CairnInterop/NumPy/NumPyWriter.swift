public import CairnBase
public import CairnCheckpoint
public import CairnStorage
import CairnTensor

/// Writes a checkpoint as a `.npz` file that `np.load` reads.
///
/// Each tensor is an array under its name, uncompressed and aligned for mapping; values are arrays too where NumPy has
/// a type for them, and text otherwise. What NumPy's format cannot tell (types of machine learning, packed elements,
/// which arrays are values) is remarked in the zip directory, where ``NumPyReader`` finds it again.
public final class NumPyWriter: CheckpointWriter {
    private let storage: any Storage
    private let key: String
    private let replaces: Bool
    private var writer: (any StorageWriter)?
    private var zip: ZipLayout?
    /// The headers of the tensors' arrays, in the order in which tensors come.
    private var headers: [[UInt8]] = []
    /// Which record each of them is.
    private var firstRecord = 0
    private var position = 0
    private var byteCount = 0
    private var isFinished = false

    /// Prepares to write to `key`, which nothing happens to before ``begin(tensors:values:)``.
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
    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        guard writer == nil, !isFinished else {
            throw CairnError(.invalidArgument, "the writer has begun before", .init(file: key))
        }
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
        try beginTensor()
        return plan.notes
    }

    public func append(_ bytes: RawSpan) throws {
        guard let writer, zip != nil, !isFinished else { throw wrongOrder("append") }
        var rest = 0..<bytes.byteCount
        while !rest.isEmpty {
            guard position < headers.count, let record = zip?.records[firstRecord + position] else {
                throw CairnError(.invalidArgument, "more bytes were written than the tensors have", .init(file: key))
            }
            let count = min(rest.count, record.byteCount - byteCount)
            let part = bytes.extracting(rest.lowerBound..<rest.lowerBound + count)
            try writer.write(part, at: record.dataOffset + byteCount)
            let sum = CRC32.combine(record.checksum, CRC32.checksum(part), secondByteCount: count)
            // In place: a copy of all records for each tensor would be quadratic.
            zip?.setChecksum(sum, of: firstRecord + position)
            byteCount += count
            rest = rest.lowerBound + count..<rest.upperBound
            if byteCount == record.byteCount {
                try endTensor()
                try beginTensor()
            }
        }
    }

    public func finish() throws {
        guard let writer, let zip, !isFinished else { throw wrongOrder("finish") }
        guard position == headers.count else {
            throw CairnError(
                .incomplete, "not all bytes of a tensor were written",
                .init(file: key, tensor: zip.records[firstRecord + position].name))
        }
        let end = zip.end
        try writer.write(end.bytes, at: end.offset)
        try writer.finish(byteCount: zip.byteCount)
        self.writer = nil
        isFinished = true
    }

    public func discard() {
        writer?.discard()
        writer = nil
        isFinished = true
    }

    /// Writes the header of the next array, and skips arrays without elements.
    private func beginTensor() throws {
        while position < headers.count {
            let header = headers[position]
            let index = firstRecord + position
            guard let writer, let record = zip?.records[index] else { return }
            try writer.write(header, at: record.dataOffset)
            zip?.setChecksum(CRC32.checksum(header.span.bytes), of: index)
            byteCount = header.count
            guard byteCount == record.byteCount else { return }
            try endTensor()
        }
    }

    private func endTensor() throws {
        guard let writer, let zip else { return }
        let index = firstRecord + position
        try writer.write(zip.header(of: index), at: zip.records[index].headerOffset)
        position += 1
        byteCount = 0
    }

    private func wrongOrder(_ call: String) -> CairnError {
        CairnError(.invalidArgument, "\(call) was called before begin or after the end", .init(file: key))
    }
}

extension Storage {
    /// Throws ``CairnError/Code/alreadyExists`` when there is an object of this name.
    package func refuseExisting(_ key: String) throws {
        guard try list(key).contains(where: { ExactString($0.key) == ExactString(key) }) else { return }
        throw CairnError(
            .alreadyExists, "there is a file of this name",
            .init(file: location(of: key), advice: "choose another name, or allow replacing it"))
    }
}
