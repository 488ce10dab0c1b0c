import CairnBase
import CairnCheckpoint

/// Puts a nested state together from what lies at paths.
///
/// What has the places 0, 1, 2 … without a gap becomes a list, everything else a dictionary.
struct NestedState {
    private struct Part {
        var leaf: StateNode?
        var children: [(key: StateKey, part: Int)] = []
        var positions: [StateKey: Int] = [:]
    }

    /// The longest path, so that small files cannot make states without end.
    static let greatestDepth = 200

    private var parts = [Part()]
    /// Whether something was where something else should go.
    private var isContradictory = false

    mutating func add(_ leaf: StateNode, at path: [StateKey]) {
        guard path.count <= Self.greatestDepth else {
            isContradictory = true
            return
        }
        var current = 0
        for key in path {
            if parts[current].leaf != nil { isContradictory = true }
            if let found = parts[current].positions[key] {
                current = found
                continue
            }
            parts.append(Part())
            parts[current].positions[key] = parts.count - 1
            parts[current].children.append((key, parts.count - 1))
            current = parts.count - 1
        }
        if parts[current].leaf != nil || !parts[current].children.isEmpty { isContradictory = true }
        parts[current].leaf = leaf
    }

    /// `nil` where the paths contradict each other.
    var root: StateNode? { isContradictory ? nil : node(0) }

    private func node(_ index: Int) -> StateNode {
        let part = parts[index]
        if let leaf = part.leaf { return leaf }
        let places = part.children.indices.map { part.positions[.index($0)] }
        if !part.children.isEmpty, !places.contains(nil) {
            return .list(places.compactMap { $0 }.map(node))
        }
        return .dictionary(part.children.map { .init(key: $0.key, node: node($0.part)) })
    }
}
