public import CairnTensor
import CairnBase

/// One step on the way to something in a nested state: a dictionary's key or a place in a list.
public enum StateKey: Sendable {
    case name(String)
    /// A place in a list, or an integer that is a dictionary's key.
    case index(Int)

    /// The key of this text.
    public init(_ name: String) { self = .name(name) }

    /// A place where the text spells one, for formats that do not tell the two apart.
    package init(spelling name: String) {
        if let index = Int(name), index >= 0, String(index).utf8.elementsEqual(name.utf8) {
            self = .index(index)
        } else {
            self.init(name)
        }
    }

    /// As Python's `str` spells it.
    public var text: String {
        switch self {
        case .name(let name): name
        case .index(let index): String(index)
        }
    }
}

extension StateKey: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    public init(stringLiteral name: String) { self.init(name) }
    public init(integerLiteral index: Int) { self = .index(index) }
}

extension StateKey: Hashable {
    /// Names are equal when their bytes are.
    public static func == (left: StateKey, right: StateKey) -> Bool {
        switch (left, right) {
        case (.name(let first), .name(let second)): ExactString(first) == ExactString(second)
        case (.index(let first), .index(let second)): first == second
        default: false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch self {
        case .name(let name): hasher.combine(ExactString(name))
        case .index(let index): hasher.combine(index)
        }
    }
}

/// How the tensors and values of a checkpoint were nested in the state that was saved: dictionaries and lists in each
/// other, with tensors, by their names, and values as leaves.
///
/// Names and ``CheckpointReader/values`` say what there is; this says how to put it together again, for formats that
/// hold nested states.
public indirect enum StateNode: Sendable {
    /// An entry of a dictionary.
    public struct Member: Sendable {
        /// Its key.
        public var key: StateKey
        /// What is there.
        public var node: StateNode

        public init(key: StateKey, node: StateNode) {
            self.key = key
            self.node = node
        }
    }

    /// The tensor of this name.
    case tensor(String)
    /// A value.
    case value(Value)
    case list([StateNode])
    case tuple([StateNode])
    /// Entries in their order.
    case dictionary([Member])
}

extension StateNode {
    /// What is left of the state with some of its tensors and, by the names of the outermost entries, some of its values.
    ///
    /// In a list nothing can be left out without moving the rest: an empty place becomes null.
    package func selecting(tensor: (String) -> Bool, value: (String) -> Bool) -> StateNode {
        guard case .dictionary(let members) = self else {
            return pruned(tensor: tensor, keepsValues: value("value")) ?? .dictionary([])
        }
        return .dictionary(
            members.compactMap { member in
                member.node.pruned(tensor: tensor, keepsValues: value(member.key.text))
                    .map { Member(key: member.key, node: $0) }
            })
    }

    private func pruned(tensor: (String) -> Bool, keepsValues: Bool) -> StateNode? {
        switch self {
        case .tensor(let name): return tensor(name) ? self : nil
        case .value: return keepsValues ? self : nil
        case .list(let nodes):
            return Self.places(nodes, tensor, keepsValues).map { .list($0) }
        case .tuple(let nodes):
            return Self.places(nodes, tensor, keepsValues).map { .tuple($0) }
        case .dictionary(let members):
            let left = members.compactMap { member in
                member.node.pruned(tensor: tensor, keepsValues: keepsValues).map { Member(key: member.key, node: $0) }
            }
            return left.isEmpty && !(members.isEmpty && keepsValues) ? nil : .dictionary(left)
        }
    }

    private static func places(
        _ nodes: [StateNode], _ tensor: (String) -> Bool, _ keepsValues: Bool
    ) -> [StateNode]? {
        let left = nodes.map { $0.pruned(tensor: tensor, keepsValues: keepsValues) }
        if left.allSatisfy({ $0 == nil }), !(nodes.isEmpty && keepsValues) { return nil }
        return left.map { $0 ?? .value(.null) }
    }

    /// The same with every tensor's name made another. Parts without tensors stay what they are, and shared if they are.
    package func naming(_ name: (String) -> String) -> StateNode { renamed(name) ?? self }

    /// `nil` where there is no tensor to rename.
    private func renamed(_ name: (String) -> String) -> StateNode? {
        switch self {
        case .tensor(let old): return .tensor(name(old))
        case .value: return nil
        case .list(let nodes): return Self.renamed(nodes, name).map { .list($0) }
        case .tuple(let nodes): return Self.renamed(nodes, name).map { .tuple($0) }
        case .dictionary(let members):
            var renamed: [Member]?
            for (position, member) in members.enumerated() {
                guard let node = member.node.renamed(name) else { continue }
                if renamed == nil { renamed = members }
                renamed?[position].node = node
            }
            return renamed.map { .dictionary($0) }
        }
    }

    private static func renamed(_ nodes: [StateNode], _ name: (String) -> String) -> [StateNode]? {
        var renamed: [StateNode]?
        for (position, node) in nodes.enumerated() {
            guard let other = node.renamed(name) else { continue }
            if renamed == nil { renamed = nodes }
            renamed?[position] = other
        }
        return renamed
    }

    /// The values one by one, each at its path: what the places of a list and the entries of a dictionary hold.
    package func leaves() -> [(path: [StateKey], value: Value)] {
        var leaves: [(path: [StateKey], value: Value)] = []
        addLeaves(at: [], to: &leaves)
        return leaves
    }

    private func addLeaves(at path: [StateKey], to leaves: inout [(path: [StateKey], value: Value)]) {
        switch self {
        case .tensor: break
        case .value(let value): leaves.append((path, value))
        case .list(let nodes), .tuple(let nodes):
            if nodes.isEmpty { leaves.append((path, .list([]))) }
            for (index, node) in nodes.enumerated() { node.addLeaves(at: path + [.index(index)], to: &leaves) }
        case .dictionary(let members):
            if members.isEmpty { leaves.append((path, .dictionary([:]))) }
            for member in members { member.node.addLeaves(at: path + [member.key], to: &leaves) }
        }
    }

    /// A state without nesting but that of the values: every tensor and value under its name.
    package init(flat tensors: [TensorDescription], values: [NamedValue]) {
        self = .dictionary(
            tensors.map { Member(key: StateKey($0.name), node: .tensor($0.name)) }
                + values.map { Member(key: StateKey($0.name), node: .value($0.value)) })
    }
}
