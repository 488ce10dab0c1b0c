public import CairnBase

extension PermutationSpec {
    /// What the file of a specification calls itself.
    package static let schema = "cairn-permutations/1"

    /// Reads a specification from a JSON document.
    ///
    /// ```json
    /// {
    ///   "schema": "cairn-permutations/1",
    ///   "axes": {
    ///     "up.weight": ["hidden", null],
    ///     "qkv.weight": [{"label": "heads", "width": 64, "repeats": 3}, null],
    ///     "positions": [null, null]
    ///   },
    ///   "stacks": {"experts": [["experts.0.weight", "experts.1.weight"]]}
    /// }
    /// ```
    ///
    /// - Parameter file: What errors name.
    /// - Throws: ``CairnError/Code/malformed`` for what is not such a document, ``CairnError/Code/unsupported`` for one of
    ///   another schema.
    public init(json bytes: [UInt8], file: String) throws(CairnError) {
        self.init()
        var schema = Self.schema
        do throws(JSONError) {
            let document = try JSONValue(parsing: bytes).asObject()
            schema = try document.string("schema")
            if schema == Self.schema { try read(document) }
        } catch {
            throw error.cairnError(file: file)
        }
        guard schema == Self.schema else {
            throw CairnError(
                .unsupported, "the document is not a specification of permutations that this version knows",
                .init(file: file, expected: Self.schema, found: schema.debugDescription))
        }
    }

    private mutating func read(_ document: JSONObject) throws(JSONError) {
        try Self.allow(["schema", "axes", "stacks"], of: document, in: "the document")
        if document["axes"] != nil {
            for member in try document.object("axes").members {
                axes[member.key] = try Self.axes(member.value, of: member.key)
            }
        }
        if document["stacks"] != nil {
            for member in try document.object("stacks").members {
                stacks[member.key] = try Self.stack(member.value, of: member.key)
            }
        }
        guard !axes.isEmpty || !stacks.isEmpty else {
            throw JSONError("the specification names no tensor: it needs \"axes\" or \"stacks\"")
        }
        var seen = Set<ExactString>()
        for name in stacks.values.joined().joined() where !seen.insert(ExactString(name)).inserted {
            throw JSONError("the tensor \"\(name)\" is in two places of the stacks")
        }
    }

    private static func axes(_ value: JSONValue, of tensor: String) throws(JSONError) -> [Axis?] {
        guard case .array(let list) = value else {
            throw JSONError("the axes of the tensor \"\(tensor)\" are not an array")
        }
        var axes: [Axis?] = []
        for (index, element) in list.enumerated() {
            do throws(JSONError) {
                axes.append(try axis(element))
            } catch {
                throw JSONError("axis \(index) of the tensor \"\(tensor)\": \(error.message)")
            }
        }
        return axes
    }

    /// A label, an object with a label and how its units lie, or null for an axis that keeps its order.
    private static func axis(_ value: JSONValue) throws(JSONError) -> Axis? {
        let axis: Axis
        switch value {
        case .null: return nil
        case .string(let label): axis = Axis(label)
        case .object(let object):
            try allow(["label", "width", "repeats", "widths"], of: object, in: "an axis")
            let label = try object.string("label")
            if object["widths"] != nil {
                guard object["width"] == nil, object["repeats"] == nil else {
                    throw JSONError("\"widths\" stands in the place of \"width\" and \"repeats\"")
                }
                var widths: [Int] = []
                for width in try object.array("widths") { widths.append(try width.asInteger()) }
                guard !widths.isEmpty, widths.allSatisfy({ $0 > 0 }) else {
                    throw JSONError("\"widths\" are one or more numbers, each at least 1")
                }
                axis = Axis(label, widths: widths)
            } else {
                axis = Axis(
                    label, width: object["width"] == nil ? 1 : try object.integer("width"),
                    repeats: object["repeats"] == nil ? 1 : try object.integer("repeats"))
            }
        default: throw JSONError("it is not a label, no object with one, and not null")
        }
        guard !axis.label.isEmpty else { throw JSONError("the label is empty") }
        guard axis.width > 0, axis.repeats > 0 else {
            throw JSONError("\"width\" and \"repeats\" must be at least 1 (got \(axis.width) and \(axis.repeats))")
        }
        return axis
    }

    private static func stack(_ value: JSONValue, of label: String) throws(JSONError) -> [[String]] {
        var lists: [[String]] = []
        do throws(JSONError) {
            guard !label.isEmpty else { throw JSONError("the label is empty") }
            for list in try value.asArray() {
                var names: [String] = []
                for name in try list.asArray() { names.append(try name.asString()) }
                guard names.count == lists.first?.count ?? names.count, !names.isEmpty else {
                    throw JSONError("each list names as many tensors as the others, one or more")
                }
                lists.append(names)
            }
            guard !lists.isEmpty else { throw JSONError("it has no list of tensors") }
        } catch {
            throw JSONError("the stack \"\(label)\": \(error.message)")
        }
        return lists
    }

    private static func allow(_ known: [String], of object: JSONObject, in place: String) throws(JSONError) {
        for member in object.members where !known.contains(member.key) {
            throw JSONError(
                "\(place) has the member \"\(member.key)\", which is not one of " + known.joined(separator: ", "))
        }
    }

    /// As a document that ``init(json:file:)`` reads: the same specification always as the same bytes.
    public var json: [UInt8] {
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 110))
        writer.beginObject()
        writer.key("schema")
        writer.write(Self.schema)
        writer.key("axes")
        writer.beginObject()
        for (name, list) in axes.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            writer.key(name)
            writer.beginArray()
            for axis in list { Self.write(axis, to: &writer) }
            writer.endArray()
        }
        writer.endObject()
        if !stacks.isEmpty {
            writer.key("stacks")
            writer.beginObject()
            for (label, lists) in stacks.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
                writer.key(label)
                writer.beginArray()
                for names in lists {
                    writer.beginArray()
                    for name in names { writer.write(name) }
                    writer.endArray()
                }
                writer.endArray()
            }
            writer.endObject()
        }
        writer.endObject()
        return writer.finish() + [UInt8(ascii: "\n")]
    }

    private static func write(_ axis: Axis?, to writer: inout JSONWriter) {
        guard let axis else { return writer.writeNull() }
        guard axis.width != 1 || axis.repeats != 1 || axis.widths != nil else { return writer.write(axis.label) }
        writer.beginObject()
        writer.key("label")
        writer.write(axis.label)
        if let widths = axis.widths {
            writer.key("widths")
            writer.beginArray()
            for width in widths { writer.write(width) }
            writer.endArray()
            return writer.endObject()
        }
        for (key, number) in [("width", axis.width), ("repeats", axis.repeats)] where number != 1 {
            writer.key(key)
            writer.write(number)
        }
        writer.endObject()
    }
}
