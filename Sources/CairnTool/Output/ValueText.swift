import CairnBase
import CairnTensor

/// A value in one line.
enum ValueText {
    /// As in a program; long lists and bytes by their beginning.
    static func describe(_ value: Value) -> String {
        switch value {
        case .null: "null"
        case .bool(let value): String(value)
        case .integer(let value): String(value)
        case .unsigned(let value): String(value)
        case .double(let value): value.description
        case .string(let value): "\"" + value + "\""
        case .bytes(let value):
            "<\(value.count) bytes" + (value.isEmpty ? "" : " " + Hexadecimal.encode(value.prefix(16)))
                + (value.count > 16 ? "…>" : ">")
        case .list(let values): "[" + join(values.map(describe)) + "]"
        case .dictionary(let values):
            "{"
                + join(
                    values.sorted { ExactString($0.key) < ExactString($1.key) }
                        .map { $0.key + ": " + describe($0.value) }) + "}"
        }
    }

    private static func join(_ parts: [String]) -> String {
        let shown = parts.prefix(16).joined(separator: ", ")
        return parts.count > 16 ? shown + ", … \(parts.count) in all" : shown
    }
}
