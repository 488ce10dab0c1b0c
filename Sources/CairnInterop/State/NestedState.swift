import CairnBase
import CairnCheckpoint

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
