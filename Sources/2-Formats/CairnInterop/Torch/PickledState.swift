import CairnBase
import CairnCheckpoint
import CairnTensor

/// The tensors and values of a pickled state: dictionaries and lists in each other, with leaves.
///
/// Only what is known to make data is understood (``PickledLeaf``). Of what is not, what Python's own protocol says of any
/// object is read where tensors are in it; else it stays closed, and is shown as text. Both are noted.
///
/// Parts without tensors are made once, and shared wherever the pickle shares them.
struct PickledState {
    enum Leaf {
        /// A view of a storage that is elsewhere.
        case view(TorchView)
        /// A tensor whose elements are in the pickle itself.
        case held(Tensor)
        /// A part of a tensor that is sharded over ranks.
        case part(RankPart)
    }

    /// The tensors with their paths, in the order of the pickle.
    private(set) var tensors: [(path: [StateKey], leaf: Leaf)] = []
    /// The values with their paths; those without tensors between them are one.
    private(set) var values: [(path: [StateKey], value: Value)] = []
    /// How they are nested; tensors stand there by their places in ``tensors``.
    private(set) var structure = StateNode.dictionary([])
    /// What is in the pickle and not here, a sentence each.
    private(set) var skippedEntries: [String] = []
    /// How many tensors are in the pickle and not here.
    private(set) var skippedTensorCount = 0

    let graph: PickleGraph
    private let file: String
    private let isPart: Bool
    private var plainParts = PlainParts()
    /// Arrays in the pickle that were made already.
    private var held: [PickleGraph.Reference: PickledLeaf] = [:]
    /// What is being read around what is read now.
    private var around: Set<PickleGraph.Reference> = []
    private var openedCount = 0
    private var holders: TensorHolders?
    private var cost = 0
    /// How many values there are, shared ones as often as they are met.
    private var valueCount = 0

    private static let greatestDepth = 200
    /// What may be made of the smallest pickle.
    private static let leastCostLimit = 1 << 18
    /// How much more may be made of a pickle than it has bytes.
    private static let costPerByte = 4
    /// How many values a small pickle may have by sharing them.
    private static let leastValueLimit = 1 << 23

    /// - Parameter isPart: Whether this is one value of a larger state, which may be any object.
    /// - Throws: ``CairnError/Code/unsupported`` for tensors that cannot be delivered, naming them, and for pickles
    ///   whose whole is an object; ``CairnError/Code/malformed`` for tensors that contradict themselves.
    init(_ graph: PickleGraph, file: String, isPart: Bool = false) throws(CairnError) {
        self.graph = graph
        self.isPart = isPart
        self.file = file
        structure = try add(graph.root, at: [], inModule: false) ?? structure
    }

    /// - Returns: `nil` for attributes of modules that are not part of the state.
    private mutating func add(
        _ reference: PickleGraph.Reference, at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> StateNode? {
        guard path.count <= Self.greatestDepth else { throw excessive(at: path) }
        // The outermost dictionary or list is taken apart in any case: its entries are the names of values.
        if !inModule, !path.isEmpty, let plain = try plain(reference, at: path) {
            valueCount = valueCount.adding(clamped: plain.count)
            let limit = max(Self.leastValueLimit, graph.byteCount.multiplied(checked: Self.costPerByte) ?? Int.max)
            guard valueCount <= limit, path.count + plain.depth <= Self.greatestDepth else { throw excessive(at: path) }
            values.append((path, plain.value))
            return plain.node
        }
        guard around.insert(reference).inserted else {
            guard openedCount > 0 else { throw excessive(at: path) }
            return addCycle(at: path)
        }
        defer { around.remove(reference) }
        try spend(1 + path.count / 4, at: path)
        let leaf = try leaf(reference, at: path)
        if case .opaque(let name) = leaf { return try addOpaque(reference, name, at: path, inModule: inModule) }
        if case .network(let module) = leaf { return try addModule(module, reference, at: path) }
        let node = try add(leaf, at: path, inModule: inModule)
        guard !inModule, let node, let kind = StateKind(reference, in: graph) else { return node }
        return .typed(kind, node)
    }

    private mutating func leaf(
        _ reference: PickleGraph.Reference, at path: [StateKey]
    ) throws(CairnError) -> PickledLeaf {
        if let known = held[reference] { return known }
        let leaf: PickledLeaf
        do throws(CairnError) {
            leaf = try PickledLeaf(reference, in: graph)
        } catch {
            throw error.adding(.init(file: file, tensor: StateNames.joined(path)))
        }
        try spend(Self.cost(of: leaf), at: path)
        if case .held = leaf { held[reference] = leaf }
        return leaf
    }

    /// Counts what is made. Shared parts with tensors are walked each time they are met, so that a small pickle could keep
    /// this busy forever, or fill the memory.
    private mutating func spend(_ amount: Int, at path: [StateKey]) throws(CairnError) {
        cost = cost.adding(clamped: amount)
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
        switch leaf {
        // Modules keep tensors without elements for their code to replace: they are not weights.
        case .view(let view) where inModule && view.shape.elementCount == 0: return nil
        case .view(let view): return add(.view(view), at: path)
        case .held(let tensor): return add(.held(tensor), at: path)
        case .part(let part): return add(.part(part), at: path)
        case .value(let value): return add(value, at: path, inModule: inModule)
        case .sequence(let elements): return .list(try addElements(elements, at: path, inModule: inModule))
        case .tuple(let elements): return .tuple(try addElements(elements, at: path, inModule: inModule))
        case .mapping(let items):
            return try addItems(items, at: path, inModule: inModule)
        case .module(let attributes):
            // The tensors of a scripted module are its state; the other attributes belong to its code.
            return try addItems(attributes, at: path, inModule: true)
        case .described(let parts): return try addParts(parts, at: path)
        case .network, .opaque: return nil
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
        let keys = PickledKeys(items, in: graph)
        if !inModule { noteShown(keys, at: path) }
        var members: [StateNode.Member] = []
        for (key, value) in keys.entries {
            if let node = try add(value, at: path + [key], inModule: inModule) {
                members.append(.init(key: key, node: node))
            }
        }
        return .dictionary(members)
    }

    /// Says which keys of a dictionary are not plain values, and stand here as text.
    private mutating func noteShown(_ keys: PickledKeys, at path: [StateKey]) {
        for key in keys.shown {
            skippedEntries.append("\"\(StateNames.joined(path + [key]))\": the key is not a plain value and shown as text")
        }
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

    // MARK: Parts without tensors

    /// What a thing is if there are no tensors in it; `nil` if there are.
    private mutating func plain(
        _ reference: PickleGraph.Reference, at path: [StateKey]
    ) throws(CairnError) -> PlainPart? {
        guard path.count <= Self.greatestDepth else { throw excessive(at: path) }
        // Numbers and text are made as easily as remembered.
        switch graph[reference] {
        case .none: return Self.plain(.null)
        case .bool(let value): return Self.plain(.bool(value))
        case .integer(let value): return Self.plain(.integer(value))
        case .double(let value): return Self.plain(.double(value))
        case .string(let text): return Self.plain(.string(text))
        default: break
        }
        switch plainParts[reference] {
        case .plain(let part): return part
        case .mixed: return nil
        case .open:
            guard openedCount > 0 else { throw excessive(at: path) }
            return plainCycle(at: path)
        case nil: break
        }
        plainParts[reference] = .open
        var part = try makePlain(reference, at: path)
        if let node = part?.node, let kind = StateKind(reference, in: graph) { part?.node = .typed(kind, node) }
        plainParts[reference] = part.map { .plain($0) } ?? .mixed
        return part
    }

    private mutating func makePlain(
        _ reference: PickleGraph.Reference, at path: [StateKey]
    ) throws(CairnError) -> PlainPart? {
        switch try leaf(reference, at: path) {
        case .value(let value): return Self.plain(value)
        case .sequence(let elements):
            return try plain(elements, at: path).map { parts in
                Self.plain(parts, value: .list(parts.map(\.value)), node: .list(parts.map(\.node)))
            }
        case .tuple(let elements):
            return try plain(elements, at: path).map { parts in
                Self.plain(parts, value: .list(parts.map(\.value)), node: .tuple(parts.map(\.node)))
            }
        case .mapping(let items): return try plain(items: items, at: path)
        case .opaque(let name):
            guard try opening(of: reference, at: path) == nil else { return nil }
            noteClosed(reference, name, at: path)
            return Self.plain(.string(PythonText(graph).describe(reference)))
        case .view, .held, .part, .module, .network, .described: return nil
        }
    }

    private static func plain(_ value: Value) -> PlainPart {
        let size =
            switch value {
            case .string(let text): text.utf8.count / 64
            case .bytes(let bytes): bytes.count / 64
            case .list(let elements): elements.count
            default: 0
            }
        return PlainPart(value: value, node: .value(value), count: 1 + size, depth: 0)
    }

    private static func plain(_ parts: [PlainPart], value: Value, node: StateNode) -> PlainPart {
        PlainPart(
            value: value, node: node, count: parts.reduce(1) { $0.adding(clamped: $1.count) },
            depth: 1 + (parts.map(\.depth).max() ?? 0))
    }

    /// All of them, or `nil` if one has tensors.
    private mutating func plain(
        _ elements: [PickleGraph.Reference], at path: [StateKey]
    ) throws(CairnError) -> [PlainPart]? {
        var parts: [PlainPart] = []
        for (index, element) in elements.enumerated() {
            guard let part = try plain(element, at: path + [.index(index)]) else { return nil }
            parts.append(part)
        }
        return parts
    }

    private mutating func plain(
        items: [PickleGraph.Reference], at path: [StateKey]
    ) throws(CairnError) -> PlainPart? {
        let keys = PickledKeys(items, in: graph)
        var parts: [PlainPart] = []
        var members: [StateNode.Member] = []
        for (key, value) in keys.entries {
            guard let part = try plain(value, at: path + [key]) else { return nil }
            parts.append(part)
            members.append(.init(key: key, node: part.node))
        }
        noteShown(keys, at: path)
        var leaves = StateLeaves(file: file)
        for (member, part) in zip(members, parts) { try leaves.add(part.value, at: [member.key]) }
        return Self.plain(parts, value: try leaves.value(), node: .dictionary(members))
    }

    // MARK: Objects

    /// A thing that holds itself, which only what was opened for its tensors may do.
    private mutating func addCycle(at path: [StateKey]) -> StateNode {
        let part = plainCycle(at: path)
        values.append((path, part.value))
        return part.node
    }

    private mutating func plainCycle(at path: [StateKey]) -> PlainPart {
        skippedEntries.append("\(StateNames.joined(path)) is what it is in: it is not followed again")
        return Self.plain(.string("…"))
    }

    /// What is read of an object that is not understood: what it has as a dictionary or a list, or what tensors are in.
    /// `nil` where it stays closed.
    private mutating func opening(
        of reference: PickleGraph.Reference, at path: [StateKey]
    ) throws(CairnError) -> PickledOpening? {
        guard let object = graph.object(reference) else { return nil }
        if holders == nil {
            holders = TensorHolders(graph)
            if holders == nil { throw excessive(at: path) }
        }
        return PickledOpening(PickledInstance(object, in: graph), in: graph) { [holders] part in
            holders?.contains(part) == true
        }
    }

    private mutating func noteClosed(_ reference: PickleGraph.Reference, _ name: String, at path: [StateKey]) {
        let holdsTensors = holders?.contains(reference) == true
        let count = holdsTensors ? TensorHolders.count(under: [reference], except: [], in: graph).count : 0
        note(path, "an object of the class \(name): it is shown as text", lost: count, ", and % in it are left out")
    }

    /// Says what something is, and how many tensors of it are not read, with `%` for them.
    private mutating func note(_ path: [StateKey], _ text: String, lost count: Int, _ loss: String) {
        skippedTensorCount += count
        let tensors = count == 1 ? "1 tensor" : "\(count) tensors"
        let parts = loss.split(separator: "%", omittingEmptySubsequences: false).map(String.init)
        skippedEntries.append(
            (path.isEmpty ? "it" : "\"\(StateNames.joined(path))\"") + " is " + text
                + (count == 0 ? "" : parts.joined(separator: tensors)))
    }

    /// What is not understood: opened where that is clear, else as text.
    private mutating func addOpaque(
        _ reference: PickleGraph.Reference, _ name: String, at path: [StateKey], inModule: Bool
    ) throws(CairnError) -> StateNode? {
        guard !inModule else { return nil }
        guard let opening = try opening(of: reference, at: path) else {
            guard !path.isEmpty || isPart else {
                throw CairnError(
                    .unsupported, "the file holds an object of the class \(name), not a state",
                    .init(
                        file: file, expected: "a dictionary, a list, a tensor, or a module",
                        advice: "save the object's state_dict() instead"))
            }
            noteClosed(reference, name, at: path)
            return add(.string(PythonText(graph).describe(reference)), at: path, inModule: false)
        }
        let (count, visits) = TensorHolders.count(under: opening.rest, except: opening.references, in: graph)
        try spend(visits, at: path)
        note(path, "an object of the class \(name): \(opening.words)", lost: count, ", and % elsewhere in it are left out")
        openedCount += 1
        defer { openedCount -= 1 }
        return try add(opening.leaf, at: path, inModule: false)
    }

    private mutating func addModule(
        _ module: PickledModule, _ reference: PickleGraph.Reference, at path: [StateKey]
    ) throws(CairnError) -> StateNode {
        let read = (module.tensors + module.others).map(\.reference)
        let (count, visits) = TensorHolders.count(under: [reference], except: read, in: graph)
        try spend(visits, at: path)
        note(
            path, "a module of the class \(module.className): its parameters and buffers are read, as of its state_dict()",
            lost: count, ", and % elsewhere in it are left out")
        var members: [StateNode.Member] = []
        for (name, reference) in module.tensors + module.others {
            // Under one key, with its dots: so `state_dict()` has it.
            let key = StateKey(name)
            if let node = try add(reference, at: path + [key], inModule: false) {
                members.append(.init(key: key, node: node))
            }
        }
        if members.isEmpty { values.append((path, .dictionary([:]))) }
        return .dictionary(members)
    }
}
