public import CairnBase
public import CairnCheckpoint
import CairnInterop
public import CairnStorage
public import CairnTensor

/// A model that Keras saved in several parts: a `.keras` file, or the index of sharded weights
/// (`NAME.weights.json`).
///
/// Names are the paths inside of the HDF5 files, as ``HDF5Reader`` gives them; a single `.h5` or `.weights.h5` is read
/// by that. Of a `.keras` file `config.json` and `metadata.json` are values.
public final class KerasReader: CheckpointReader {
    public let format = "keras"
    public let source: String
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    public let skippedEntries: [String]

    private let parts: [(reader: HDF5Reader, file: String)]
    /// In which part each tensor is.
    private let partIndices: [ExactString: Int]
    private let records: [ZipRecord]

    /// Opens the file of the name `key`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/unsupported`` for something else than Keras's; ``CairnError/Code/malformed`` or
    ///   ``CairnError/Code/incomplete`` when it is damaged or a shard is missing.
    public init(storage: any Storage, file key: String, source: String? = nil) throws(CairnError) {
        let location = source ?? storage.location(of: key)
        self.source = location
        if key.hasSuffix(Self.indexSuffix) {
            parts = try Self.shards(storage, key, location)
            records = []
        } else {
            let zip = try ZipArchive(FileWindow(storage, key))
            let (weights, texts) = try KerasArchive.open(zip)
            parts = [
                (
                    try HDF5Reader(weights, format: "keras", file: key, source: location, further: texts), key
                )
            ]
            records = [weights]
        }
        var tensors: [TensorDescription] = []
        var partIndices: [ExactString: Int] = [:]
        var values: [ExactString: Value] = [:]
        for (index, part) in parts.enumerated() {
            for tensor in part.reader.tensors {
                guard partIndices.updateValue(index, forKey: ExactString(tensor.name)) == nil else {
                    throw CairnError(
                        .malformed, "two shards have the same tensor",
                        .init(file: location, tensor: tensor.name, found: parts[index].file))
                }
                tensors.append(tensor)
            }
            for value in part.reader.values {
                let name = ExactString(value.name)
                values[name] = try Self.merged(values[name], value.value, at: value.name, location)
            }
        }
        self.partIndices = partIndices
        self.tensors = tensors.sorted { ExactString($0.name) < ExactString($1.name) }
        self.values = values.sorted { $0.key < $1.key }.map { NamedValue(name: $0.key.string, value: $0.value) }
        skippedEntries = parts.flatMap(\.reader.skippedEntries)
    }

    /// The record of a `.keras` file that has the weights: by it such a file is told from other zip archives.
    package static var weightsRecordName: String { KerasArchive.weightsName }

    /// Opens the file at a path.
    public convenience init(path: String) throws(CairnError) { try self.init(path: path, reading: nil) }

    convenience init(path: String, reading: ReadingStorage?) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        try self.init(storage: storage.read(through: reading), file: key, source: path)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try part(of: name).reader.read(name, region: region, into: &destination)
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try part(of: name).reader.storedPieces(of: name, in: region)
    }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = parts.count
        report.damages = parts.flatMap(\.reader.damages).map { VerificationReport.Damage(error: $0) }
        guard deep else { return report }
        // An archive's records have checksums, whatever is in them.
        if !records.isEmpty { try report.add(records) { _ in } }
        let counted = (bytes: report.byteCount, unsummed: report.unsummedByteCount)
        for tensor in tensors where tensor.tiedTo == nil {
            let before = report.byteCount
            try report.addReading(tensor, of: self, progress: progress)
            let isChecked = try !records.isEmpty || part(of: tensor.name).reader.hasChecksums(tensor.name)
            if !isChecked { report.unsummedByteCount += report.byteCount - before }
        }
        if !records.isEmpty { (report.byteCount, report.unsummedByteCount) = counted }
        return report
    }

    private func part(of name: String) throws(CairnError) -> (reader: HDF5Reader, file: String) {
        guard let index = partIndices[ExactString(name)] else { throw CairnError.noTensor(name, in: source) }
        return parts[index]
    }
}

extension KerasReader {
    private static let indexSuffix = ".json"
    private static let greatestIndex = 64 << 20

    /// Opens the shards that an index names: files beside it.
    private static func shards(
        _ storage: any Storage, _ key: String, _ source: String
    ) throws(CairnError) -> [(reader: HDF5Reader, file: String)] {
        let bytes = try storage.readAll(key, limit: greatestIndex)
        let index: JSONObject
        do throws(JSONError) {
            index = try JSONValue(parsing: bytes).asObject().object("weight_map")
        } catch {
            throw CairnError(
                .malformed, "this is not an index of Keras's sharded weights",
                .init(file: source, expected: "a weight_map"),
                cause: error)
        }
        var names: [String] = []
        var promises: [(group: String, shard: String)] = []
        for member in index.members {
            let elements: [JSONValue]
            if case .array(let several) = member.value { elements = several } else { elements = [member.value] }
            for element in elements {
                guard case .string(let name) = element else { throw malformed(source, member.key) }
                names.append(name)
                promises.append((String(member.key.drop { $0 == "/" }), name))
            }
        }
        var seen: Set<ExactString> = []
        var parts: [(reader: HDF5Reader, file: String)] = []
        let directory = key.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(key[...$0]) } ?? ""
        for name in names.sorted(by: { ExactString($0) < ExactString($1) })
        where seen.insert(ExactString(name)).inserted {
            guard !name.contains("/"), !name.isEmpty, name != ".", name != ".." else {
                throw CairnError(
                    .malformed, "a shard lies elsewhere than beside its index", .init(file: source, found: name))
            }
            let file = directory + name
            do throws(CairnError) {
                parts.append(
                    (
                        try HDF5Reader(
                            FileWindow(storage, file), format: "keras", file: file, source: storage.location(of: file)),
                        file
                    ))
            } catch {
                guard error.code == .notFound else { throw error }
                throw CairnError(
                    .incomplete, "a shard is missing", .init(file: source, expected: name), cause: error)
            }
        }
        guard !parts.isEmpty else {
            throw CairnError(.malformed, "the index names no shards", .init(file: source))
        }
        try check(promises, parts, directory, source)
        return parts
    }

    /// Makes sure that shards have what the index says: one of another save may lie in their place.
    private static func check(
        _ promises: [(group: String, shard: String)], _ parts: [(reader: HDF5Reader, file: String)],
        _ directory: String, _ source: String
    ) throws(CairnError) {
        var groups: [ExactString: Set<ExactString>] = [:]
        for part in parts {
            for tensor in part.reader.tensors {
                let group = tensor.name.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(tensor.name[..<$0]) } ?? ""
                groups[ExactString(part.file), default: []].insert(ExactString(group))
            }
        }
        for promise in promises
        where groups[ExactString(directory + promise.shard)]?.contains(ExactString(promise.group)) != true {
            throw CairnError(
                .incomplete, "a shard lacks variables that the index says it has",
                .init(
                    file: source, expected: "\(promise.group) in \(promise.shard)",
                    advice: "put all files of one save beside the index"))
        }
    }

    private static func malformed(_ source: String, _ key: String) -> CairnError {
        CairnError(.malformed, "the index does not say which shard has a variable", .init(file: source, found: key))
    }

    /// Puts together what shards say of one group.
    private static func merged(
        _ first: Value?, _ second: Value, at path: String, _ source: String
    ) throws(CairnError) -> Value {
        guard let first, first != second else { return second }
        guard case .dictionary(var members) = first, case .dictionary(let others) = second else {
            throw CairnError(.malformed, "two shards say different things", .init(file: source, found: path))
        }
        for (key, value) in others { members[key] = try merged(members[key], value, at: path + "/" + key, source) }
        return .dictionary(members)
    }
}

/// A `.keras` file: a zip archive with the weights as HDF5 and the model's description as JSON.
enum KerasArchive {
    /// The record with the weights.
    static let weightsName = "model.weights.h5"
    /// Records of text that are kept as values.
    private static let textNames = ["config.json", "metadata.json"]
    private static let greatestText = 64 << 20

    /// The weights, read inside of the archive, and the texts.
    static func open(_ zip: ZipArchive) throws(CairnError) -> (weights: ZipRecord, texts: [NamedValue]) {
        guard zip.contains(weightsName) else {
            throw CairnError(
                .unsupported, "the zip archive is not of Keras",
                .init(
                    file: zip.file.key, expected: weightsName,
                    found: zip.entries.prefix(3).map(\.name).joined(separator: ", ")))
        }
        var texts: [NamedValue] = []
        for name in textNames where zip.contains(name) {
            let bytes = try zip.bytes(name, limit: greatestText)
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw CairnError(
                    .malformed, "a text of the archive is not UTF-8", .init(file: zip.file.key, found: name))
            }
            texts.append(NamedValue(name: name, value: .string(text)))
        }
        return (try zip.record(weightsName), texts)
    }
}

/// Layers that Keras quantised: their kernels are 8-bit integers, and what they stand for is in scales beside them.
///
/// In `.keras` and `.weights.h5` variables have numbers: `layers/dense/vars/0` is the kernel (of int8 as it is shaped, of int4,
/// GPTQ and AWQ packed, two in a byte), the scale and perhaps a zero point and an order of the inputs come behind the bias. In
/// the old `.h5` they have names, `kernel` and `kernel_scale`. Source: Keras 3.15 `layers/core/dense.py`, `embedding.py`,
/// `einsum_dense.py`.
enum KerasQuantization {
    /// The note for a file with such layers, `nil` for one without.
    static func note(_ tensors: [TensorDescription]) -> String? {
        let names = Set(tensors.map { ExactString($0.name) })
        var scaled: Set<ExactString> = []
        for tensor in tensors where tensor.scalarType == .f32 {
            if let group = variables(tensor.name) { scaled.insert(ExactString(group)) }
        }
        let found = tensors.filter { tensor in
            guard tensor.scalarType == .i8 || tensor.scalarType == .u8, tensor.shape.dimensionCount >= 2 else { return false }
            if let group = variables(tensor.name) { return scaled.contains(ExactString(group)) }
            return ["kernel", "embeddings"].contains { tensor.name.hasSuffix("/" + $0) || tensor.name.hasSuffix("_" + $0) }
                && names.contains(ExactString(tensor.name + "_scale"))
        }.map(\.name)
        guard let first = found.first else { return nil }
        let shown = found.count == 1 ? "\(first) is" : "\(first) and \(found.count - 1) more are"
        return "\(shown) integers of quantised layers of Keras, which stand for weights only with the scales beside them "
            + "and may be packed, two in a byte: they are delivered as they are stored"
    }

    /// The group of numbered variables that a name is in.
    private static func variables(_ name: String) -> String? {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[parts.count - 2] == "vars", Int(parts[parts.count - 1]) != nil else { return nil }
        return parts.dropLast().joined(separator: "/")
    }
}
