import CairnBase
import Yams

/// A node of a rules file, with where it is: every error names the line.
struct YAMLField {
    let node: Node
    /// Such as `rules[3].placement[0]`.
    let path: String
    let file: String?

    func error(_ message: String, expected: String? = nil, found: String? = nil) -> CairnError {
        let line = node.mark.map { "line \($0.line): " } ?? ""
        let place = path.isEmpty ? "" : "\(path): "
        return CairnError(.malformed, line + place + message, .init(file: file, expected: expected, found: found))
    }

    /// The text of a scalar, whatever it looks like.
    func text() throws(CairnError) -> String {
        guard case .scalar(let scalar) = node else { throw error("expected text", found: kind) }
        return scalar.string
    }

    /// A number without arithmetic.
    func number() throws(CairnError) -> Int {
        let text = try text()
        guard let number = Int(text), "\(number)" == text else {
            throw error("expected a whole number", found: text.debugDescription)
        }
        return number
    }

    func expression() throws(CairnError) -> IntegerExpression {
        let text = try text()
        do throws(CairnError) {
            _ = try ArithmeticParser.parse(text)
        } catch {
            throw self.error(error.message, found: text.debugDescription)
        }
        return IntegerExpression(text)
    }

    func bool() throws(CairnError) -> Bool {
        switch try text() {
        case "true": return true
        case "false": return false
        default: throw error("expected true or false", found: try text().debugDescription)
        }
    }

    /// Whether it is written as nothing: empty, `null` or `~`.
    var isNull: Bool {
        if case .scalar(let scalar) = node, scalar.style == .plain { return ["", "null", "~"].contains(scalar.string) }
        return false
    }

    var isScalar: Bool { if case .scalar = node { true } else { false } }
    var isSequence: Bool { if case .sequence = node { true } else { false } }

    func list() throws(CairnError) -> [YAMLField] {
        guard case .sequence(let sequence) = node else { throw error("expected a list", found: kind) }
        return sequence.enumerated().map { YAMLField(node: $1, path: "\(path)[\($0)]", file: file) }
    }

    func expressions() throws(CairnError) -> [IntegerExpression] {
        var result: [IntegerExpression] = []
        for element in try list() { result.append(try element.expression()) }
        return result
    }

    /// A list of texts, or one text.
    func texts() throws(CairnError) -> [String] {
        if isScalar { return [try text()] }
        var result: [String] = []
        for element in try list() { result.append(try element.text()) }
        return result
    }

    func mapping() throws(CairnError) -> YAMLMapping {
        guard case .mapping(let mapping) = node else { throw error("expected keys and values", found: kind) }
        var entries: [(key: String, value: YAMLField)] = []
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                throw YAMLField(node: key, path: path, file: file).error("a key is no text")
            }
            let inner = path.isEmpty ? scalar.string : "\(path).\(scalar.string)"
            entries.append((scalar.string, YAMLField(node: value, path: inner, file: file)))
        }
        return YAMLMapping(field: self, entries: entries, keys: mapping.map { $0.key })
    }

    /// The only key and its value: `tp: …`.
    func pair() throws(CairnError) -> (key: String, value: YAMLField) {
        let mapping = try mapping()
        guard mapping.entries.count == 1, let entry = mapping.entries.first else {
            throw error("expected one key", found: "\(mapping.entries.count)")
        }
        return entry
    }

    private var kind: String {
        switch node {
        case .scalar(let scalar): scalar.string.count <= 40 ? scalar.string.debugDescription : "text"
        case .sequence: "a list"
        case .mapping: "keys and values"
        case .alias: "an alias"
        }
    }
}

/// Keys and values, of which every one must be asked for.
struct YAMLMapping {
    let field: YAMLField
    let entries: [(key: String, value: YAMLField)]
    let keys: [Node]

    subscript(key: String) -> YAMLField? { entries.first { $0.key == key }?.value }

    func required(_ key: String) throws(CairnError) -> YAMLField {
        guard let value = self[key] else { throw field.error("the key \"\(key)\" is missing") }
        return value
    }

    /// Refuses keys that mean nothing.
    func allow(_ known: String...) throws(CairnError) {
        for (index, entry) in entries.enumerated() where !known.contains(entry.key) {
            throw YAMLField(node: keys[index], path: field.path, file: field.file).error(
                "nothing is called \"\(entry.key)\" here", expected: known.joined(separator: ", "))
        }
    }
}
