#if YAML
package import CairnBase
package import Yams

/// A node of a YAML file, with where it is: every error names the line.
package struct YAMLField {
    package let node: Node
    /// Such as `rules[3].placement[0]`.
    package let path: String
    package let file: String?

    package init(node: Node, path: String, file: String?) {
        self.node = node
        self.path = path
        self.file = file
    }

    /// Reads a text.
    ///
    /// - Parameters:
    ///   - file: What errors call it.
    ///   - what: What it is, for messages: `the rules`.
    /// - Throws: ``CairnError/Code/malformed`` with the line for what is not YAML or is empty,
    ///   ``CairnError/Code/unsupported`` for what is too long.
    package static func parse(_ yaml: String, file: String?, what: String) throws(CairnError) -> YAMLField {
        let greatestByteCount = 4 << 20
        guard yaml.utf8.count <= greatestByteCount else {
            throw CairnError(
                .unsupported, "\(what) are too long",
                .init(file: file, expected: "at most \(greatestByteCount) bytes", found: "\(yaml.utf8.count)"))
        }
        // A byte-order mark says nothing of UTF-8, and is not content.
        let text = yaml.unicodeScalars.first == "\u{FEFF}" ? String(yaml.unicodeScalars.dropFirst()) : yaml
        let root: Node?
        do {
            root = try Yams.compose(yaml: text, .default, .default, .utf8)
        } catch {
            throw Self.syntaxError(error, file: file)
        }
        guard let root else { throw CairnError(.malformed, "\(what) are empty", .init(file: file)) }
        return YAMLField(node: root, path: "", file: file)
    }

    private static func syntaxError(_ error: any Error, file: String?) -> CairnError {
        func make(_ problem: String, line: Int?) -> CairnError {
            CairnError(.malformed, (line.map { "line \($0): " } ?? "") + problem, .init(file: file))
        }
        guard let error = error as? YamlError else { return make("it is not YAML", line: nil) }
        switch error {
        // The parser's words for it are half a sentence.
        case .composer(_, "but found another document", let mark, _):
            return make("a second document begins here, and one is read: make each a file of its own", line: mark.line)
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return make(problem, line: mark.line)
        case .duplicatedKeysInMapping(let keys, let context):
            return make("a key occurs twice: \(keys.joined(separator: ", "))", line: context.mark.line)
        case .reader(let problem, _, _, _): return make(problem, line: nil)
        default: return make("it is not YAML", line: nil)
        }
    }

    /// Where it begins, from 1; `nil` for what was not read from a text.
    package var line: Int? { node.mark?.line }

    package func error(_ message: String, expected: String? = nil, found: String? = nil) -> CairnError {
        let line = line.map { "line \($0): " } ?? ""
        let prefix = path.isEmpty ? "" : "\(path): "
        return CairnError(.malformed, line + prefix + message, .init(file: file, expected: expected, found: found))
    }

    /// The text of a scalar, whatever it looks like.
    package func text() throws(CairnError) -> String {
        guard case .scalar(let scalar) = node else { throw error("expected text", found: kind) }
        return scalar.string
    }

    /// A number without arithmetic.
    package func number() throws(CairnError) -> Int {
        let text = try text()
        guard let number = Int(text), "\(number)" == text else {
            throw error("expected a whole number", found: text.debugDescription)
        }
        return number
    }

    package func bool() throws(CairnError) -> Bool {
        switch try text() {
        case "true": return true
        case "false": return false
        default: throw error("expected true or false", found: try text().debugDescription)
        }
    }

    /// Whether it is written as nothing: empty, `null` or `~`.
    package var isNull: Bool {
        if case .scalar(let scalar) = node, scalar.style == .plain { return ["", "null", "~"].contains(scalar.string) }
        return false
    }

    /// Whether it is a scalar without quotes, whose text may stand for another type.
    package var isPlain: Bool { if case .scalar(let scalar) = node { scalar.style == .plain } else { false } }
    package var isScalar: Bool { if case .scalar = node { true } else { false } }
    package var isSequence: Bool { if case .sequence = node { true } else { false } }

    package func list() throws(CairnError) -> [YAMLField] {
        guard case .sequence(let sequence) = node else { throw error("expected a list", found: kind) }
        return sequence.enumerated().map { YAMLField(node: $1, path: "\(path)[\($0)]", file: file) }
    }

    /// A list of texts, or one text.
    package func texts() throws(CairnError) -> [String] {
        if isScalar { return [try text()] }
        var result: [String] = []
        for element in try list() { result.append(try element.text()) }
        return result
    }

    /// The keys and values, with those that `<<` takes over from other mappings and that are not set here.
    package func mapping() throws(CairnError) -> YAMLMapping { try mapping(depth: 0) }

    private func mapping(depth: Int) throws(CairnError) -> YAMLMapping {
        guard case .mapping(let mapping) = node else { throw error("expected keys and values", found: kind) }
        guard depth < 32 else { throw error("keys are taken over from too many mappings inside each other") }
        var entries: [(key: String, value: YAMLField)] = [], keys: [Node] = []
        var merged: [YAMLField] = []
        for (key, value) in mapping {
            guard case .scalar(let scalar) = key else {
                throw YAMLField(node: key, path: path, file: file).error("a key is not text")
            }
            if scalar.string == "<<", scalar.style == .plain {
                let field = YAMLField(node: value, path: path, file: file)
                merged += try field.isSequence ? field.list() : [field]
                continue
            }
            let inner = path.isEmpty ? scalar.string : "\(path).\(scalar.string)"
            entries.append((scalar.string, YAMLField(node: value, path: inner, file: file)))
            keys.append(key)
        }
        for field in merged {
            let other = try YAMLField(node: field.node, path: path, file: file).mapping(depth: depth + 1)
            for (entry, key) in zip(other.entries, other.keys) where !entries.contains(where: { $0.key == entry.key }) {
                entries.append(entry)
                keys.append(key)
            }
        }
        return YAMLMapping(field: self, entries: entries, keys: keys)
    }

    /// The only key and its value: `tp: …`.
    package func pair() throws(CairnError) -> (key: String, value: YAMLField) {
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
package struct YAMLMapping {
    package let field: YAMLField
    package let entries: [(key: String, value: YAMLField)]
    package let keys: [Node]

    package init(field: YAMLField, entries: [(key: String, value: YAMLField)], keys: [Node]) {
        self.field = field
        self.entries = entries
        self.keys = keys
    }

    package subscript(key: String) -> YAMLField? { entries.first { $0.key == key }?.value }

    package func required(_ key: String) throws(CairnError) -> YAMLField {
        guard let value = self[key] else { throw field.error("the key \"\(key)\" is missing") }
        return value
    }

    /// Refuses keys that mean nothing.
    package func allow(_ known: String...) throws(CairnError) {
        for (index, entry) in entries.enumerated() where !known.contains(entry.key) {
            throw YAMLField(node: keys[index], path: field.path, file: field.file).error(
                "nothing is called \"\(entry.key)\" here", expected: known.joined(separator: ", "))
        }
    }
}
#endif
