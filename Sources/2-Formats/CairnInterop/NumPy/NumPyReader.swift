public import CairnBase
public import CairnCheckpoint
public import CairnStorage
public import CairnTensor

/// A `.npz` file of NumPy, or a single `.npy`.
///
/// Arrays of numbers are tensors, row-major whatever their order in the file, except that one without dimensions is a
/// value, as NumPy's own numbers are; text is a value too, and so is what arrays of Python objects hold: their pickle
/// is read as data. What else there is, such as records, is left out and listed under ``skippedEntries``.
///
/// A single array is the tensor `tensor`.
public final class NumPyReader: CheckpointReader {
    public let format = "numpy"
    public let source: String
    public let values: [NamedValue]
    public let skippedEntries: [String]
    public var tensors: [TensorDescription] { table.descriptions }

    private let table: TensorTable
    private let records: [ZipRecord]
    private let file: String

    static let fileExtension = ".npy"
    private static let loneName = "tensor"

    /// Opens the file of the name `key`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/malformed`` when it contradicts itself, ``CairnError/Code/incomplete`` when it was
    ///   cut short, ``CairnError/Code/unsupported`` for another version.
    public init(storage: any Storage, file key: String, source: String? = nil) throws(CairnError) {
        let location = source ?? storage.location(of: key)
        self.source = location
        file = key
        let window = try FileWindow(storage, key)
        var contents = NumPyContents(file: location)
        if try window.bytes(in: 0..<min(6, window.byteCount)) == NumPyHeader.magic {
            try contents.add(window, named: Self.loneName, at: [StateKey(Self.loneName)], note: nil, isAlone: true)
            records = []
        } else {
            let zip = try ZipArchive(window)
            var records: [ZipRecord] = []
            for entry in zip.entries {
                guard entry.name.hasSuffix(Self.fileExtension) else {
                    contents.skippedEntries.append("\(entry.name) is not an array and left out")
                    continue
                }
                let record = try zip.record(entry.name)
                records.append(record)
                let name = String(entry.name.dropLast(Self.fileExtension.count))
                do throws(CairnError) {
                    try contents.add(
                        record, named: name, at: [StateKey(name)], note: NumPyNote(entry.comment), isAlone: false)
                } catch {
                    throw error.adding(.init(file: location, tensor: name))
                }
                record.release()
            }
            self.records = records
        }
        table = TensorTable(try contents.distinctTensors(), source: location)
        values = try contents.leaves.values()
        skippedEntries = contents.skippedEntries
    }

    /// Opens the file at a path.
    public convenience init(path: String) throws(CairnError) { try self.init(path: path, reading: nil) }

    convenience init(path: String, reading: ReadingStorage?) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        try self.init(storage: storage.read(through: reading), file: key, source: path)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try table.content(name).storedPieces(in: region, file: file)
    }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = 1
        guard deep else { return report }
        try report.add(records, progress: progress)
        // A .npy file is not an archive.
        guard records.isEmpty else { return report }
        var buffer: [UInt8] = []
        for tensor in tensors where tensor.tiedTo == nil {
            try report.addUnsummed(table.content(tensor.name), named: tensor.name, buffer: &buffer, progress: progress)
        }
        return report
    }
}

/// What the arrays of a file are, gathered one by one.
private struct NumPyContents {
    let file: String
    var tensors: [(name: String, content: any TensorView, tiedTo: String?)] = []
    var leaves: StateLeaves
    var skippedEntries: [String] = []

    init(file: String) {
        self.file = file
        leaves = StateLeaves(file: file)
    }

    /// - Parameter isAlone: Whether it is the whole file, which is a tensor even without dimensions.
    mutating func add(
        _ bytes: any StorageFile, named name: String, at path: [StateKey], note: NumPyNote?, isAlone: Bool
    ) throws(CairnError) {
        if case .value(let keys, let isText, let isBytes)? = note {
            let value = try Self.value(NumPyArray(bytes), isText: isText, isBytes: isBytes)
            try leaves.add(value, at: keys.map { StateKey($0) })
            return
        }
        var declared: ScalarType?
        var shape: [Int]?
        var ties: [String] = []
        if case .tensor(let scalarType, let extents, let names)? = note {
            (declared, shape, ties) = (scalarType, extents, names)
        }
        switch try NumPyArray(bytes, declared: declared) {
        case .tensor(let content, let remark):
            if content.shape.dimensionCount == 0, note == nil, !isAlone, let value = try Self.number(content) {
                return try leaves.add(value, at: path)
            }
            var content = content
            if let declared, declared != content.scalarType {
                content = try Self.packed(content, declared, shape, bytes)
            }
            if let remark { skippedEntries.append("\(name) \(remark)") }
            tensors.append((name, content, nil))
            for tie in ties { tensors.append((tie, content, name)) }
        case .value(let value): try leaves.add(value, at: path)
        case .objects(let state):
            for (inner, leaf) in state.tensors {
                guard case .held(let tensor) = leaf else { continue }
                tensors.append((StateNames.joined(path + inner), HeldView(tensor), nil))
            }
            for (inner, value) in state.values { try leaves.add(value, at: path + inner) }
            skippedEntries += state.skippedEntries.map { "\(name): \($0)" }
        case .skipped(let reason): skippedEntries.append("\(name) is left out: \(reason)")
        }
    }

    /// The tensors, each name once.
    func distinctTensors() throws(CairnError) -> [(name: String, content: any TensorView, tiedTo: String?)] {
        var names: Set<ExactString> = []
        for tensor in tensors where !names.insert(ExactString(tensor.name)).inserted {
            throw CairnError(.malformed, "two tensors have one name", .init(file: file, tensor: tensor.name))
        }
        return tensors
    }

    /// Bytes that a note says to be packed elements.
    private static func packed(
        _ content: any TensorView, _ scalarType: ScalarType, _ extents: [Int]?, _ bytes: any StorageFile
    ) throws(CairnError) -> any TensorView {
        guard let extents, content.scalarType == .u8, let stored = content as? FileTensor,
            case let shape = try Shape(checking: extents),
            scalarType.byteCount(elementCount: shape.elementCount) == stored.shape.elementCount
        else {
            throw CairnError(
                .malformed, "an array's comment says another type than it can have",
                .init(expected: "\(scalarType)\(extents ?? [])", found: "\(content.scalarType)\(content.shape)"))
        }
        return FileTensor(file: stored.file, byteOffset: stored.byteOffset, scalarType: scalarType, shape: shape)
    }

    private static func value(
        _ array: NumPyArray, isText: Bool, isBytes: Bool
    ) throws(CairnError) -> Value {
        switch array {
        case .value(.string(let text)) where isText:
            let json: JSONValue
            do throws(JSONError) {
                json = try JSONValue(parsing: text)
            } catch {
                throw CairnError(.malformed, "a value is not JSON", cause: error)
            }
            return try ValueCoding.value(json)
        case .value(let value): return value
        case .tensor(let content, _):
            guard content.shape.dimensionCount <= 1, content.shape.elementCount <= 1 << 22,
                content.shape.elementCount > 0
            else {
                guard content.shape.elementCount == 0 else {
                    throw CairnError(.malformed, "a value has too many elements or dimensions")
                }
                return isBytes ? .bytes([]) : .list([])
            }
            let tensor = try Self.whole(content)
            if isBytes, content.scalarType == .u8 { return .bytes(tensor) }
            let width = content.scalarType.byteWidth ?? 1
            var elements: [Value] = []
            for start in stride(from: 0, to: tensor.count, by: width) {
                guard let value = NumPyNumber.value(content.scalarType, tensor[start..<start + width]) else {
                    throw CairnError(.malformed, "a value is of a type that values do not have")
                }
                elements.append(value)
            }
            return content.shape.dimensionCount == 0 ? elements[0] : .list(elements)
        case .objects, .skipped: throw CairnError(.malformed, "a value is of a type that values do not have")
        }
    }

    /// A number without dimensions as a value; `nil` for types that values do not have.
    private static func number(_ content: any TensorView) throws(CairnError) -> Value? {
        NumPyNumber.value(content.scalarType, try whole(content)[...])
    }

    private static func whole(_ content: any TensorView) throws(CairnError) -> [UInt8] {
        let byteCount = content.scalarType.byteCount(elementCount: content.shape.elementCount) ?? 0
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try content.read(Region(whole: content.shape), into: &raw)
        return bytes
    }
}
