import CairnBase
import CairnCheckpoint
import CairnTensor

/// The tensors and values of a pickled state: dictionaries and lists in each other, with leaves.
///
/// Only what is known to make data is understood (``PickledLeaf``). What is not stays closed: it is shown as text, and
/// what it holds is left out and said to be.
struct PickledState {
    enum Leaf {
        /// A view of a storage that is elsewhere.
        case view(TorchView)
        /// A tensor whose elements are in the pickle itself.
        case held(Tensor)
    }

    /// The tensors with their paths, in the order of the pickle.
    private(set) var tensors: [(path: [StateKey], leaf: Leaf)] = []
    /// The values with their paths.
    private(set) var values: [(path: [StateKey], value: Value)] = []
    /// How they are nested; tensors stand there by their places in ``tensors``.
    private(set) var structure = StateNode.dictionary([])
    /// What is in the pickle and not here, a sentence each.
    private(set) var omissions: [String] = []

    private let graph: PickleGraph
    private let file: String
    private let isPart: Bool
    private var cost = 0

    private static let greatestDepth = 200
    /// What may be made of the smallest pickle.
    private static let leastCostLimit = 1 << 15
    /// How much more may be made of a pickle than it has bytes.
    private static let costPerByte = 4

    /// - Parameter isPart: Whether this is one value of a larger state, which may be any object.
    /// - Throws: ``CairnError/Code/unsupported`` for tensors that cannot be delivered, naming them, and for pickles
    ///   whose whole is an object; ``CairnError/Code/malformed`` for tensors that contradict themselves.
    init(_ graph: PickleGraph, file: String, isPart: Bool = false) throws(CairnError) {
        self.graph = graph
        self.isPart = isPart
        self.file = file
        structure = try add(graph.root, at: [], inModule: false) ?? structure
    }

    /// - Returns: `nil` for attributes of modules that are no part of the state.
    private mutating func add(
        _ reference: PickleGraph.Reference, at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> StateNode? {
        guard path.count <= Self.greatestDepth else { throw excessive(at: path) }
        try spend(1 + path.count / 4, at: path)
        let leaf: PickledLeaf
        do throws(CairnError) {
            leaf = try PickledLeaf(reference, in: graph)
        } catch {
            throw error.adding(.init(file: file, tensor: StateNames.joined(path)))
        }
        if case .opaque(let name) = leaf { return try addOpaque(reference, name, at: path, inModule: inModule) }
        let node = try add(leaf, at: path, inModule: inModule)
        guard !inModule, let node, let kind = StateKind(reference, in: graph) else { return node }
        return .typed(kind, node)
    }

    /// Counts what is made. Shared parts are walked each time they are met, so that a small pickle could keep this busy
    /// forever, or fill the memory.
    private mutating func spend(_ amount: Int, at path: [StateKey]) throws(CairnError) {
        cost += amount
        let limit = max(Self.leastCostLimit, graph.byteCount.multiplied(checked: Self.costPerByte) ?? Int.max)
        guard cost <= limit else { throw excessive(at: path) }
    }

    private func excessive(at path: [StateKey]) -> CairnError {
        CairnError(
            .unsupported, "the state is nested too deeply, holds itself or repeats itself too often",
            .init(file: file, tensor: StateNames.joined(Array(path.prefix(8)))))
    }

    /// About how much of what a leaf holds was made for it.
    private static func cost(of leaf: PickledLeaf) -> Int {
        switch leaf {
        case .held(let tensor): tensor.byteCount / costPerByte
        case .value(.bytes(let bytes)): bytes.count / costPerByte
        case .value(.list(let elements)): elements.count
        default: 0
        }
    }

    private mutating func add(
        _ leaf: PickledLeaf, at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> StateNode? {
        try spend(Self.cost(of: leaf), at: path)
        switch leaf {
        // Modules keep tensors without elements for their code to replace: they are no weights.
        case .view(let view) where inModule && view.shape.elementCount == 0: return nil
        case .view(let view): return add(.view(view), at: path)
        case .held(let tensor): return add(.held(tensor), at: path)
        case .value(let value): return add(value, at: path, inModule: inModule)
        case .sequence(let elements): return .list(try addElements(elements, at: path, inModule: inModule))
        case .tuple(let elements): return .tuple(try addElements(elements, at: path, inModule: inModule))
        case .mapping(let items):
            return try addItems(items, at: path, inModule: inModule)
        case .module(let attributes):
            // Of a scripted module its tensors are the state; the other attributes belong to its code.
            return try addItems(attributes, at: path, inModule: true)
        case .described(let parts): return try addParts(parts, at: path)
        case .opaque: return nil
        }
    }

    private mutating func add(_ leaf: Leaf, at path: [StateKey]) -> StateNode {
        tensors.append((path, leaf))
        return .tensor(String(tensors.count - 1))
    }

    private mutating func add(_ value: Value, at path: [StateKey], inModule: Bool) -> StateNode? {
        guard !inModule else { return nil }
        values.append((path, value))
        return .value(value)
    }

    /// What is not understood, as text.
    private mutating func addOpaque(
        _ reference: PickleGraph.Reference, _ name: String, at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> StateNode? {
        guard !path.isEmpty || isPart else {
            throw CairnError(
                .unsupported, "the file holds an object of the class \(name), not a state",
                .init(
                    file: file, expected: "a dictionary, a list or a tensor",
                    advice: "save the object's state_dict() instead"))
        }
        guard !inModule else { return nil }
        let (count, visits) = PickledLeaf.tensorCount(under: reference, in: graph)
        try spend(visits, at: path)
        omissions.append(
            (path.isEmpty ? "it" : "\"\(StateNames.joined(path))\"")
                + " is an object of the class \(name): it is shown as text"
                + (count == 0 ? "" : ", and \(count) tensors in it are left out"))
        return add(.string(PythonText(graph).describe(reference)), at: path, inModule: false)
    }

    private mutating func addElements(
        _ elements: [PickleGraph.Reference], at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> [StateNode] {
        if elements.isEmpty, !inModule { values.append((path, .list([]))) }
        var nodes: [StateNode] = []
        for (index, element) in elements.enumerated() {
            nodes.append(try add(element, at: path + [.index(index)], inModule: inModule) ?? .value(.null))
        }
        return nodes
    }

    private mutating func addItems(
        _ items: [PickleGraph.Reference], at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> StateNode {
        if items.isEmpty, !inModule { values.append((path, .dictionary([:]))) }
        // Of a key that comes twice, the last one counts.
        var last: [StateKey: Int] = [:]
        var keys: [StateKey] = []
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            let key = self.key(items[index])
            if key.isShown, !inModule {
                omissions.append(
                    "\"\(StateNames.joined(path + [key.key]))\": the key is no plain value and shown as text")
            }
            keys.append(key.key)
            last[key.key] = index
        }
        var members: [StateNode.Member] = []
        for (position, key) in keys.enumerated() where last[key] == position * 2 {
            if let node = try add(items[position * 2 + 1], at: path + [key], inModule: inModule) {
                members.append(.init(key: key, node: node))
            }
        }
        return .dictionary(members)
    }

    private mutating func addParts(_ parts: [PickledPart], at path: [StateKey]) throws(CairnError) -> StateNode {
        var members: [StateNode.Member] = []
        for part in parts {
            let key = StateKey(part.name)
            let node =
                switch part.content {
                case .value(let value): try add(.value(value), at: path + [key], inModule: false)
                case .node(let reference): try add(reference, at: path + [key], inModule: false)
                case .leaf(let leaf): try add(leaf, at: path + [key], inModule: false)
                }
            if let node { members.append(.init(key: key, node: node)) }
        }
        return .dictionary(members)
    }

    /// A dictionary's key, and whether it is only text that shows what it was.
    private func key(_ reference: PickleGraph.Reference) -> (key: StateKey, isShown: Bool) {
        switch graph[reference] {
        case .string(let text): return (StateKey(text), false)
        case .integer(let value): return (.index(Int(value)), false)
        default:
            if let value = keyValue(reference, depth: 0) { return (.value(value), false) }
            return (StateKey(PythonText(graph).describe(reference)), true)
        }
    }

    /// A key that is neither text nor an integer, where it is made of plain values.
    private func keyValue(_ reference: PickleGraph.Reference, depth: Int) -> Value? {
        switch graph[reference] {
        case .none: return .null
        case .bool(let value): return .bool(value)
        case .double(let value): return .double(value)
        case .bytes(let bytes): return .bytes(bytes)
        case .object: return PickledLeaf.bytes(reference, in: graph).map { .bytes($0) }
        case .string(let text): return depth == 0 ? nil : .string(text)
        case .integer(let value): return depth == 0 ? nil : .integer(value)
        case .tuple(let elements) where depth < 8 && elements.count <= 64:
            var values: [Value] = []
            for element in elements {
                guard let value = keyValue(element, depth: depth + 1) else { return nil }
                values.append(value)
            }
            return .list(values)
        default: return nil
        }
    }
}
