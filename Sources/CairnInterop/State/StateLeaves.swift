package import CairnBase
package import CairnCheckpoint
package import CairnTensor

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
