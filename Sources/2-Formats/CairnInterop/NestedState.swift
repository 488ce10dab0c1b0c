package import CairnBase
package import CairnCheckpoint
package import CairnTensor

/// Puts a nested state together from what lies at paths.
///
/// What has the places 0, 1, 2 … without a gap becomes a list, everything else a dictionary.
struct NestedState {
    private struct Branch {
        var leaf: StateNode?
        var children: [(key: StateKey, branch: Int)] = []
        var positions: [StateKey: Int] = [:]
    }

    /// The longest path, so that small files cannot make states without end.
    static let greatestDepth = 200

    private var branches = [Branch()]
    /// Whether something was where something else should go.
    private var isContradictory = false

    mutating func add(_ leaf: StateNode, at path: [StateKey]) {
        guard path.count <= Self.greatestDepth else {
            isContradictory = true
            return
        }
        var current = 0
        for key in path {
            if branches[current].leaf != nil { isContradictory = true }
            if let found = branches[current].positions[key] {
                current = found
                continue
            }
            branches.append(Branch())
            branches[current].positions[key] = branches.count - 1
            branches[current].children.append((key, branches.count - 1))
            current = branches.count - 1
        }
        if branches[current].leaf != nil || !branches[current].children.isEmpty { isContradictory = true }
        branches[current].leaf = leaf
    }

    /// `nil` where the paths contradict each other.
    var root: StateNode? { isContradictory ? nil : node(0) }

    private func node(_ index: Int) -> StateNode {
        let branch = branches[index]
        if let leaf = branch.leaf { return leaf }
        let order = branch.children.indices.map { branch.positions[.index($0)] }
        if !branch.children.isEmpty, !order.contains(nil) {
            return .list(order.compactMap { $0 }.map(node))
        }
        return .dictionary(branch.children.map { .init(key: $0.key, node: node($0.branch)) })
    }
}

/// The values of a nested state, each at its path, gathered into a tree again.
///
/// What has the keys 0, 1, 2 … without a gap becomes a list, everything else a dictionary, so that the same state
/// gives the same values whichever format held it; where tensors leave gaps in a list, the places are a dictionary's
/// keys.
package struct StateLeaves {
    private struct Node {
        var value: Value?
        var children: [(key: StateKey, node: Node)] = []
        var positions: [StateKey: Int] = [:]
    }

    private let file: String
    private var root = Node()

    /// - Parameter file: For messages.
    package init(file: String) { self.file = file }

    /// - Throws: ``CairnError/Code/malformed`` when something is there already.
    package mutating func add(_ value: Value, at path: [StateKey]) throws(CairnError) {
        guard Self.add(value, at: path[...], to: &root) else {
            throw CairnError(
                .malformed, "two values have the same path", .init(file: file, found: StateNames.joined(path)))
        }
    }

    private static func add(_ value: Value, at path: ArraySlice<StateKey>, to node: inout Node) -> Bool {
        guard node.value == nil else { return false }
        guard let key = path.first else {
            guard node.children.isEmpty else { return false }
            node.value = value
            return true
        }
        let position = node.positions[key] ?? node.children.count
        if position == node.children.count {
            node.children.append((key, Node()))
            node.positions[key] = position
        }
        return add(value, at: path.dropFirst(), to: &node.children[position].node)
    }

    /// The values by the first step of their paths, sorted by name.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` when two keys of a dictionary are spelt alike.
    package func values() throws(CairnError) -> [NamedValue] {
        if let value = root.value { return [NamedValue(name: "value", value: value)] }
        var names: Set<ExactString> = []
        var values: [NamedValue] = []
        for child in root.children {
            guard names.insert(ExactString(child.key.text)).inserted else { throw alike(child.key) }
            values.append(NamedValue(name: child.key.text, value: try value(of: child.node)))
        }
        return values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    /// All of it as one value.
    ///
    /// - Throws: As ``values()``.
    func value() throws(CairnError) -> Value { try value(of: root) }

    private func value(of node: Node) throws(CairnError) -> Value {
        if let value = node.value { return value }
        let order = node.children.indices.map { node.positions[.index($0)] }
        if !node.children.isEmpty, !order.contains(nil) {
            var elements: [Value] = []
            for position in order.compactMap({ $0 }) { elements.append(try value(of: node.children[position].node)) }
            return .list(elements)
        }
        var members: [String: Value] = [:]
        for child in node.children {
            guard members.updateValue(try value(of: child.node), forKey: child.key.text) == nil else {
                throw alike(child.key)
            }
        }
        return .dictionary(members)
    }

    private func alike(_ key: StateKey) -> CairnError {
        CairnError(
            .unsupported, "two keys of a dictionary are spelt alike",
            .init(file: file, found: key.text.debugDescription))
    }
}

/// The names of what lies at paths of a nested state: the components joined by dots.
///
/// Where two paths join to one name, as `a` / `b.c` and `a.b` / `c` do, the dots and backslashes inside the components
/// of both get a backslash in front.
enum StateNames {
    static func joined(_ path: [StateKey]) -> String {
        path.map(\.text).joined(separator: ".")
    }

    /// - Parameter fallback: The name of what has an empty path.
    /// - Throws: ``CairnError/Code/unsupported`` when two paths cannot be told apart by name.
    static func names(of paths: [[StateKey]], fallback: String, file: String) throws(CairnError) -> [String] {
        var names = paths.map { $0.isEmpty ? fallback : joined($0) }
        var uses: [ExactString: Int] = [:]
        for name in names { uses[ExactString(name), default: 0] += 1 }
        guard uses.count < names.count else { return names }
        for (index, path) in paths.enumerated() where uses[ExactString(names[index])] ?? 0 > 1 {
            names[index] = path.map { escaped($0.text) }.joined(separator: ".")
        }
        var seen: Set<ExactString> = []
        for name in names where !seen.insert(ExactString(name)).inserted {
            throw CairnError(
                .unsupported, "two tensors have keys that are spelt alike", .init(file: file, tensor: name))
        }
        return names
    }

    private static func escaped(_ text: String) -> String {
        String(text.flatMap { $0 == "." || $0 == "\\" ? ["\\", $0] : [$0] })
    }
}

/// What a value is, `nil` where it is something else.
extension Value {
    package var boolean: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    package var signedInteger: Int64? {
        guard case .integer(let value) = self else { return nil }
        return value
    }

    package var unsignedInteger: UInt64? {
        guard case .unsigned(let value) = self else { return nil }
        return value
    }

    package var number: Double? {
        guard case .double(let value) = self else { return nil }
        return value
    }

    package var text: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }
}
