import CairnBase
import CairnTensor

/// The one JSON document that a command prints with `--json`.
enum ResultDocument {
    /// Prints `{"schema": …}` with the members of `object` behind it.
    ///
    /// - Throws: ``CairnError/Code/inputOutput``.
    static func print(schema: String, _ object: JSONObject) throws(CairnError) {
        var document: JSONObject = ["schema": .string(schema)]
        for member in object.members { document[member.key] = member.value }
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 110))
        do throws(JSONError) {
            try writer.write(.object(document))
        } catch {
            throw CairnError(.unsupported, "the result cannot be written as JSON", cause: error)
        }
        try StandardOutput.write(writer.finish() + [UInt8(ascii: "\n")])
    }
}

extension JSONValue {
    /// A number, or one of the strings "nan", "inf", "-inf", for which JSON has no notation.
    static func number(_ value: Double) -> JSONValue {
        value.isFinite ? .double(value) : .string(NumberText.short(value))
    }

    /// A count.
    static func count(_ value: Int) -> JSONValue { .integer(Int64(value)) }

    /// The string, or null.
    static func optional(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }

    /// A list of strings.
    static func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }

    /// The extents of a shape.
    static func shape(_ shape: Shape) -> JSONValue { .array(shape.extents.map { .count($0) }) }
}
