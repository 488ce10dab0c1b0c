import CairnBase
public import CairnTensor

/// One step on the way to something in a nested state: a dictionary's key or a place in a list.
public enum StateKey: Sendable {
    case name(String)
    /// A place in a list, or an integer that is a dictionary's key.
    case index(Int)
    /// Another key of a dictionary: a truth value, null, a float, bytes, or a list for a tuple of such.
    case value(Value)

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
        case .value(let value): Self.text(of: value)
        }
    }

    private static func text(of value: Value) -> String {
        switch value {
        case .null: "None"
        case .bool(let value): value ? "True" : "False"
        case .integer(let value): String(value)
        case .unsigned(let value): String(value)
        case .double(let value): value.description
        case .string(let text): "'\(text)'"
        case .bytes(let bytes): "b'" + bytes.map(byteText).joined() + "'"
        case .list(let elements):
            "(" + elements.map(text).joined(separator: ", ") + (elements.count == 1 ? ",)" : ")")
        case .dictionary: "{…}"
        }
    }

    private static func byteText(_ byte: UInt8) -> String {
        if (0x20...0x7E).contains(byte), byte != 0x27, byte != 0x5C { return String(Unicode.Scalar(byte)) }
        let digits = String(byte, radix: 16)
        return (digits.utf8.count == 1 ? "\\x0" : "\\x") + digits
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
        case (.value(let first), .value(let second)): first == second
        default: false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch self {
        case .name(let name): hasher.combine(ExactString(name))
        case .index(let index): hasher.combine(index)
        case .value(let value): hasher.combine(value)
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
    /// Something that is more than the node that stands for it; where that is not understood, the node will do.
    case typed(StateKind, StateNode)

    /// Whether there is a tensor in it.
    package var hasTensor: Bool {
        switch self {
        case .tensor: true
        case .value: false
        case .list(let nodes), .tuple(let nodes): nodes.contains(where: \.hasTensor)
        case .dictionary(let members): members.contains { $0.node.hasTensor }
        case .typed(_, let node): node.hasTensor
        }
    }

    /// Its entries, if it is a dictionary of any kind.
    package var members: [Member]? {
        switch self {
        case .dictionary(let members): members
        case .typed(_, let node): node.members
        default: nil
        }
    }
}

extension StateNode {
    /// What is left of the state with some of its tensors and, by the names of the outermost entries, some of its values.
    ///
    /// In a list nothing can be left out without moving the rest: an empty place becomes null.
    package func selecting(tensor: (String) -> Bool, value: (String) -> Bool) -> StateNode {
        if case .typed(let kind, let node) = self, node.members != nil {
            return .typed(kind, node.selecting(tensor: tensor, value: value))
        }
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
            return Self.positions(nodes, tensor, keepsValues).map { .list($0) }
        case .tuple(let nodes):
            return Self.positions(nodes, tensor, keepsValues).map { .tuple($0) }
        case .dictionary(let members):
            let left = members.compactMap { member in
                member.node.pruned(tensor: tensor, keepsValues: keepsValues).map { Member(key: member.key, node: $0) }
            }
            return left.isEmpty && !(members.isEmpty && keepsValues) ? nil : .dictionary(left)
        case .typed(let kind, let node):
            return node.pruned(tensor: tensor, keepsValues: keepsValues).map { .typed(kind, $0) }
        }
    }

    private static func positions(
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
        case .typed(let kind, let node): return node.renamed(name).map { .typed(kind, $0) }
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
        case .typed(_, let node): node.addLeaves(at: path, to: &leaves)
        }
    }

    /// A state without nesting but that of the values: every tensor under its name, and the values as they were in another
    /// state of the same.
    ///
    /// - Parameter original: The name that a value has there.
    package init(
        flat tensors: [TensorDescription], values: [NamedValue], of other: StateNode, original: (String) -> String
    ) {
        let nodes = (other.members ?? []).map { (ExactString($0.key.text), $0.node) }
        let known = Dictionary(nodes, uniquingKeysWith: { first, _ in first })
        self = .dictionary(
            tensors.map { Member(key: StateKey($0.name), node: .tensor($0.name)) }
                + values.map { value in
                    let node = known[ExactString(original(value.name))]
                    // Where tensors are gone the places in lists are too: the value itself is what is left.
                    let kept = node.flatMap { $0.hasTensor ? nil : $0 }
                    return Member(key: StateKey(value.name), node: kept ?? .value(value.value))
                })
    }

    /// A state without nesting but that of the values: every tensor and value under its name.
    package init(flat tensors: [TensorDescription], values: [NamedValue]) {
        self = .dictionary(
            tensors.map { Member(key: StateKey($0.name), node: .tensor($0.name)) }
                + values.map { Member(key: StateKey($0.name), node: .value($0.value)) })
    }
}

/// What something in a nested state was to Python, where a plainer node stands for it: a set for which there is a list of its
/// elements, a complex number that is shown as its two parts.
public enum StateKind: Sendable, Hashable {
    case set
    case frozenSet
    case orderedDictionary
    case defaultDictionary
    case counter
    case deque
    case byteArray
    case complex
    /// An integer beyond 64 bits, in decimal digits.
    case bigInteger
    case path
    /// `torch.Size`.
    case size
    /// `torch.float32` and the like.
    case scalarType
    case device
    /// `torch.strided` and the like.
    case layout
    /// Another constant of PyTorch.
    case constant
    /// A tensor that is a parameter of a module.
    case parameter(requiresGradient: Bool)
    /// A tensor that gradients are computed for.
    case gradient
    /// A tensor with attributes, or of a class of its own.
    case subclass
    /// A tensor that is described by a dictionary of its parts.
    case sparseTensor, quantizedTensor, packedTensor, metaTensor, nestedTensor
    /// A NumPy array, for which there is a tensor or a list.
    case array
    /// A NumPy number.
    case arrayScalar
    /// A NumPy type.
    case arrayType

    /// What one of them is called.
    package var name: String {
        switch self {
        case .set: "set"
        case .frozenSet: "frozenset"
        case .orderedDictionary: "OrderedDict"
        case .defaultDictionary: "defaultdict"
        case .counter: "Counter"
        case .deque: "deque"
        case .byteArray: "bytearray"
        case .complex: "complex"
        case .bigInteger: "int beyond 64 bits"
        case .path: "Path"
        case .size: "torch.Size"
        case .scalarType: "torch.dtype"
        case .device: "torch.device"
        case .layout: "torch.layout"
        case .constant: "constant of PyTorch"
        case .parameter: "Parameter"
        case .gradient: "tensor with requires_grad"
        case .subclass: "tensor of a class or with attributes of its own"
        case .sparseTensor: "sparse tensor"
        case .quantizedTensor: "quantized tensor"
        case .packedTensor: "quantized tensor of several numbers in a byte"
        case .metaTensor: "tensor of the device meta"
        case .nestedTensor: "nested tensor"
        case .array: "numpy.ndarray"
        case .arrayScalar: "NumPy number"
        case .arrayType: "numpy.dtype"
        }
    }
}
