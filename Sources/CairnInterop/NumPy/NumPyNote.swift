import CairnBase
import CairnCheckpoint
import CairnTensor

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
