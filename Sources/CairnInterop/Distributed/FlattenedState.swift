import CairnBase
import CairnCheckpoint
import CairnTensor

/// A nested state in the flat form in which torch.distributed.checkpoint stores it: every tensor and every value under the
/// keys on the way to it, joined by dots.
///
/// As `flatten_state_dict` does it, dictionaries are entered always, lists where a tensor or a dictionary is in them;
/// other lists are one value. Tuples with tensors in them are entered too, since only so the tensors are tensors. Source:
/// `torch/distributed/checkpoint/_traverse.py` of PyTorch 2.13.
struct FlattenedState {
    enum Leaf {
        case tensor(String)
        case value(StateNode)
    }

    struct FlatEntry {
        var name: String
        var path: [StateKey]
        var leaf: Leaf
    }

    private(set) var entries: [FlatEntry] = []

    /// - Parameter root: A dictionary; anything else is taken for its one entry.
    /// - Throws: ``CairnError/Code/unsupported`` when two paths cannot be told apart by name.
    init(_ root: StateNode, file: String) throws(CairnError) {
        var leaves: [(path: [StateKey], leaf: Leaf)] = []
        switch root {
        case _ where root.members != nil: Self.add(root, at: [], to: &leaves)
        case .tensor(let name): Self.add(root, at: [StateKey(name)], to: &leaves)
        default: Self.add(root, at: ["value"], to: &leaves)
        }
        let names = try StateNames.names(of: leaves.map(\.path), fallback: "value", file: file)
        for (name, leaf) in zip(names, leaves) {
            entries.append(FlatEntry(name: name, path: leaf.path, leaf: leaf.leaf))
        }
    }

    private static func add(
        _ node: StateNode, at path: [StateKey], to leaves: inout [(path: [StateKey], leaf: Leaf)]
    ) {
        switch node {
        case .tensor(let name): leaves.append((path, .tensor(name)))
        case .dictionary(let members) where !members.isEmpty:
            for member in members { add(member.node, at: path + [StateKey(member.key.text)], to: &leaves) }
        case .value(.dictionary(let members)) where !members.isEmpty:
            for (key, value) in members.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
                add(.value(value), at: path + [StateKey(key)], to: &leaves)
            }
        case .typed(_, let inner) where inner.hasTensor || inner.members?.isEmpty == false:
            add(inner, at: path, to: &leaves)
        case .list(let nodes) where !nodes.allSatisfy(isTerminal), .tuple(let nodes) where nodes.contains(where: \.hasTensor):
            for (index, node) in nodes.enumerated() { add(node, at: path + [.index(index)], to: &leaves) }
        case .value(.list(let values)) where !values.allSatisfy({ isTerminal(.value($0)) }):
            for (index, value) in values.enumerated() { add(.value(value), at: path + [.index(index)], to: &leaves) }
        // An empty dictionary is not a leaf to PyTorch, which loses it.
        default: leaves.append((path, .value(node)))
        }
    }

    /// Whether a list that holds this may stay one value.
    static func isTerminal(_ node: StateNode) -> Bool {
        switch node {
        case .tensor, .dictionary, .value(.dictionary): false
        case .list(let nodes): nodes.allSatisfy(isTerminal)
        case .value(.list(let values)): values.allSatisfy { isTerminal(.value($0)) }
        case .tuple(let nodes): !nodes.contains(where: \.hasTensor)
        case .typed(_, let inner): !inner.hasTensor && inner.members == nil
        case .value: true
        }
    }
}
