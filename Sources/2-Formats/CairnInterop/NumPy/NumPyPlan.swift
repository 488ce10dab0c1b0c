import CairnBase
import CairnCheckpoint
import CairnTensor

/// The arrays of an `.npz` file to be written: values first, then tensors.
struct NumPyPlan {
    private(set) var records: [ZipLayout.Record] = []
    /// The whole arrays of the values.
    private(set) var values: [[UInt8]] = []
    /// The headers of the tensors' arrays.
    private(set) var headers: [[UInt8]] = []
    /// What other readers will not understand, a sentence each.
    private(set) var notes: [String] = []
    private var names: Set<ExactString> = []

    /// - Throws: ``CairnError/Code/invalidArgument`` for a tie to what is not written, ``CairnError/Code/unsupported``
    ///   for names with a NUL, and where more is tied to one tensor than can be remarked.
    init(tensors: [TensorDescription], values: [NamedValue], file: String) throws(CairnError) {
        names = Set(tensors.map { ExactString($0.name) })
        for value in values { add(value.value, at: [value.name]) }
        var ties: [ExactString: [String]] = [:]
        let stored = Set(tensors.filter { $0.tiedTo == nil }.map { ExactString($0.name) })
        for tensor in tensors {
            guard !tensor.name.utf8.contains(0) else {
                throw CairnError(
                    .unsupported, "a zip archive cannot have this name", .init(file: file, tensor: tensor.name))
            }
            guard let kept = tensor.tiedTo else { continue }
            guard stored.contains(ExactString(kept)) else {
                throw CairnError(
                    .invalidArgument, "the tensor that this one is tied to is not written",
                    .init(file: file, tensor: tensor.name, expected: kept))
            }
            ties[ExactString(kept), default: []].append(tensor.name)
            notes.append(
                "\"\(tensor.name)\" is \"\(kept)\" under another name and stored once; other readers will not see it")
        }
        for tensor in tensors where tensor.tiedTo == nil {
            let note = add(tensor, ties: ties[ExactString(tensor.name)] ?? [])
            guard note.utf8.count <= NumPyNote.greatestByteCount else {
                throw CairnError(
                    .unsupported, "more names are tied to a tensor than the format has room for",
                    .init(file: file, tensor: tensor.name))
            }
        }
        addNotes(on: tensors.filter { $0.tiedTo == nil })
    }

    private mutating func add(_ tensor: TensorDescription, ties: [String]) -> String {
        let code: String
        var extents = tensor.shape.extents
        var scalarType: ScalarType?
        var shape: [Int]?
        if let known = NumPyType.code(of: tensor.scalarType) {
            code = known
        } else if let width = tensor.scalarType.byteWidth {
            code = "|V\(width)"
            scalarType = tensor.scalarType
        } else {
            code = "|u1"
            (scalarType, shape) = (tensor.scalarType, extents)
            extents = [tensor.byteCount]
        }
        // Arrays without dimensions would be taken for values.
        let isPlain = scalarType == nil && ties.isEmpty && !extents.isEmpty
        let note = isPlain ? "" : NumPyNote.tensor(scalarType: scalarType, shape: shape, ties: ties).text
        let header = Self.header(code, extents)
        headers.append(header)
        records.append(
            ZipLayout.Record(
                name: tensor.name + NumPyReader.fileExtension, byteCount: header.count + tensor.byteCount, comment: note
            ))
        return note
    }

    private mutating func addNotes(on tensors: [TensorDescription]) {
        for scalarType in ScalarType.allCases where NumPyType.code(of: scalarType) == nil {
            let found = tensors.filter { $0.scalarType == scalarType }
            guard !found.isEmpty else { continue }
            let some = found.prefix(3).map(\.name).joined(separator: ", ") + (found.count > 3 ? ", …" : "")
            let form = scalarType.isPacked ? "rows of packed bytes" : "raw \(scalarType.bitWidth / 8)-byte elements"
            notes.append(
                "\(found.count) tensors of \(scalarType), which NumPy does not have (\(some)), are \(form); other "
                    + "readers will not see what they are")
        }
    }

    /// The header of version 1.0, ending at a multiple of 64.
    static func header(_ code: String, _ extents: [Int]) -> [UInt8] {
        let shape =
            extents.count == 1 ? "(\(extents[0]),)" : "(" + extents.map(String.init).joined(separator: ", ") + ")"
        var text = Array("{'descr': '\(code)', 'fortran_order': False, 'shape': \(shape), }".utf8)
        let fixed = NumPyHeader.magic.count + 4
        let total = (fixed + text.count + 1).roundedUp(toMultipleOf: 64) ?? fixed + text.count + 1
        text += [UInt8](repeating: UInt8(ascii: " "), count: total - fixed - text.count - 1) + [UInt8(ascii: "\n")]
        return NumPyHeader.magic + [
            1, 0, UInt8(truncatingIfNeeded: text.count), UInt8(truncatingIfNeeded: text.count >> 8),
        ]
            + text
    }

    // MARK: Values

    private mutating func add(_ value: Value, at path: [String]) {
        switch value {
        case .dictionary(let members) where !members.isEmpty:
            for member in members.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
                add(member.value, at: path + [member.key])
            }
        case .bytes(let bytes):
            append(Self.header("|u1", [bytes.count]) + bytes, path, isBytes: true)
        case .list(let elements):
            if let array = Self.array(elements, extents: [elements.count]) {
                append(array, path)
            } else {
                appendText(value, path)
            }
        default:
            if let array = Self.array([value], extents: []) { append(array, path) } else { appendText(value, path) }
        }
    }

    /// An array of elements of one type, `nil` when they are of several or of none that NumPy has.
    private static func array(_ elements: [Value], extents: [Int]) -> [UInt8]? {
        func numbers<Number>(_ code: String, _ number: (Value) -> Number?) -> [UInt8]? {
            let numbers = elements.compactMap(number)
            guard numbers.count == elements.count else { return nil }
            return header(code, extents) + numbers.withUnsafeBytes { Array($0) }
        }
        switch elements.first {
        case .bool:
            return numbers("|b1") { $0.boolean.map { $0 ? UInt8(1) : 0 } }
        case .integer:
            return numbers("<i8") { $0.signedInteger?.littleEndian }
        case .unsigned:
            return numbers("<u8") { $0.unsignedInteger?.littleEndian }
        case .double:
            return numbers("<f8") { $0.number?.bitPattern.littleEndian }
        case .string: return text(elements, extents: extents)
        default: return nil
        }
    }

    /// Text of one width; `nil` when some ends with a NUL, which NumPy drops, or widths differ so much that little text
    /// would need much room.
    private static func text(_ elements: [Value], extents: [Int]) -> [UInt8]? {
        let texts = elements.compactMap { $0.text.map { Array($0.unicodeScalars) } }
        guard texts.count == elements.count, texts.allSatisfy({ $0.last != "\0" }) else { return nil }
        let width = max(1, texts.reduce(0) { max($0, $1.count) })
        guard width * texts.count <= 1 << 16 || width * texts.count <= 8 * texts.reduce(0, { $0 + $1.count }) else {
            return nil
        }
        var bytes = header("<U\(width)", extents)
        for text in texts {
            for scalar in text + [Unicode.Scalar](repeating: "\0", count: width - text.count) {
                for byte in 0..<4 { bytes.append(UInt8(truncatingIfNeeded: scalar.value >> UInt32(byte * 8))) }
            }
        }
        return bytes
    }

    private mutating func appendText(_ value: Value, _ path: [String]) {
        var writer = JSONWriter()
        do {
            try writer.write(ValueCoding.json(value))
        } catch {
            notes.append("the value \"\(path.joined(separator: "."))\" is left out: \(error)")
            return
        }
        let text = String(decoding: writer.finish(), as: UTF8.self)
        guard let array = Self.text([.string(text)], extents: []) else { return }
        append(array, path, isText: true)
        notes.append("the value \"\(path.joined(separator: "."))\" is text that other readers will not understand")
    }

    private mutating func append(_ array: [UInt8], _ path: [String], isText: Bool = false, isBytes: Bool = false) {
        let note = NumPyNote.value(path: path, isText: isText, isBytes: isBytes).text
        var name = path.joined(separator: "/")
        guard !name.utf8.contains(0), note.utf8.count <= NumPyNote.greatestByteCount else {
            notes.append("the value \"\(path.joined(separator: "."))\" is left out: its name does not fit the format")
            return
        }
        // The remark has the true name; what is free will do for the archive.
        while !names.insert(ExactString(name)).inserted { name += "_" }
        values.append(array)
        records.append(
            ZipLayout.Record(
                name: name + NumPyReader.fileExtension, byteCount: array.count, comment: note))
    }
}

/// What Cairn remarks on an array of an `.npz` file, in the comment that a zip directory has for each record: what
/// NumPy's format has no place for. NumPy does not look at it.
enum NumPyNote: Equatable {
    /// A tensor, also where there are no dimensions; of another type or shape than the array where that is given.
    case tensor(scalarType: ScalarType?, shape: [Int]?, ties: [String])
    /// A value at these keys. `isText`: the array is the value as JSON.
    case value(path: [String], isText: Bool, isBytes: Bool)

    /// The longest comment that a directory can have.
    static let greatestByteCount = 65_535

    /// As JSON.
    var text: String {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("cairn")
        switch self {
        case .tensor(let scalarType, let shape, let ties):
            writer.write("tensor")
            if let scalarType {
                writer.key("dtype")
                writer.write(scalarType.rawValue)
            }
            if let shape {
                writer.key("shape")
                writer.beginArray()
                for extent in shape { writer.write(extent) }
                writer.endArray()
            }
            if !ties.isEmpty { Self.write(ties, "ties", to: &writer) }
        case .value(let path, let isText, let isBytes):
            writer.write("value")
            Self.write(path, "path", to: &writer)
            if isText || isBytes {
                writer.key("form")
                writer.write(isText ? "json" : "bytes")
            }
        }
        writer.endObject()
        return String(decoding: writer.finish(), as: UTF8.self)
    }

    private static func write(_ texts: [String], _ key: String, to writer: inout JSONWriter) {
        writer.key(key)
        writer.beginArray()
        for text in texts { writer.write(text) }
        writer.endArray()
    }

    /// `nil` for comments that this writer did not make.
    init?(_ comment: String) {
        guard comment.utf8.first == UInt8(ascii: "{"), let object = try? JSONValue(parsing: comment).asObject(),
            case .string(let kind)? = object["cairn"]
        else { return nil }
        func strings(_ key: String) -> [String]? {
            guard case .array(let elements)? = object[key] else { return nil }
            let texts = elements.compactMap { element -> String? in
                if case .string(let text) = element { return text }
                return nil
            }
            return texts.count == elements.count ? texts : nil
        }
        switch kind {
        case "tensor":
            var scalarType: ScalarType?
            if case .string(let name)? = object["dtype"] {
                guard let type = ScalarType(rawValue: name) else { return nil }
                scalarType = type
            }
            var shape: [Int]?
            if case .array(let extents)? = object["shape"] {
                let numbers = extents.compactMap { try? $0.asInteger() }
                guard numbers.count == extents.count else { return nil }
                shape = numbers
            }
            self = .tensor(scalarType: scalarType, shape: shape, ties: strings("ties") ?? [])
        case "value":
            guard let path = strings("path"), !path.isEmpty else { return nil }
            self = .value(
                path: path, isText: object["form"] == .string("json"), isBytes: object["form"] == .string("bytes"))
        default: return nil
        }
    }
}
