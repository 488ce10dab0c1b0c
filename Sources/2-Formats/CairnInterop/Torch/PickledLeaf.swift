import CairnBase
import CairnTensor

/// What one node of a pickle means.
enum PickledLeaf {
    case view(TorchView)
    case held(Tensor)
    case value(Value)
    case sequence([PickleGraph.Reference])
    /// The same that Python cannot change.
    case tuple([PickleGraph.Reference])
    /// Keys and values in turn.
    case mapping([PickleGraph.Reference])
    /// A module of TorchScript: its attributes.
    case module([PickleGraph.Reference])
    /// A module of `torch.nn` that was pickled whole.
    case network(PickledModule)
    /// A tensor that is made of others.
    case described([PickledPart])
    /// A part of a tensor that is sharded over ranks.
    case part(RankPart)
    /// An object of a class that is not understood: the class's name.
    case opaque(String)

    /// How many wrappers may be around a tensor.
    private static let greatestDepth = 16

    /// - Parameter depth: How many wrappers were taken off already.
    /// - Throws: ``CairnError/Code/unsupported`` for kinds of tensors that cannot be delivered.
    init(_ reference: PickleGraph.Reference, in graph: PickleGraph, depth: Int = 0) throws(CairnError) {
        guard depth <= Self.greatestDepth else {
            throw CairnError(.unsupported, "a tensor of the pickle is wrapped too often")
        }
        switch graph[reference] {
        case .none: self = .value(.null)
        case .bool(let value): self = .value(.bool(value))
        case .integer(let value): self = .value(.integer(value))
        case .bigInteger(let bytes): self = .value(PythonInteger.value(bytes))
        case .double(let value): self = .value(.double(value))
        case .string(let text): self = .value(.string(text))
        case .bytes(let bytes): self = .value(.bytes(bytes))
        case .list(let elements): self = .sequence(elements)
        case .tuple(let elements): self = .tuple(elements)
        case .set(let elements): self = try Self.set(elements, in: graph)
        case .dictionary(let items): self = .mapping(items)
        case .persistent:
            // A storage by itself: its elements in a row.
            guard let storage = try PickledTensor.name(reference, in: graph) else {
                self = .opaque("what the reader supplies")
                return
            }
            self = .view(try TorchView(storage, storage.scalarType, extents: [storage.count], strides: [1], offset: 0))
        case .global(let index):
            let global = graph.globals[Int(index)]
            // `torch.float32`, `torch.strided` and the like; the names of classes begin with a capital.
            let isConstant = global.module == "torch" && global.name.utf8.first.map { $0 >= 0x61 } == true
            self = isConstant ? .value(.string(global.path)) : .opaque(global.path)
        case .object(let index): self = try Self.object(graph.objects[Int(index)], in: graph, depth: depth)
        }
    }

    private static func object(
        _ object: PickleGraph.Object, in graph: PickleGraph, depth: Int
    ) throws(CairnError) -> PickledLeaf {
        let constructor = object.constructor
        switch constructor.module {
        case "torch._utils", "torch._tensor", "torch.nested._internal.nested_tensor":
            return try PickledTensor.leaf(object, in: graph, depth: depth)
        case "torch.jit._pickle":
            // Each takes the value first and then its type.
            guard let value = object.arguments.first else { return .opaque(constructor.path) }
            return try PickledLeaf(value, in: graph, depth: depth + 1)
        case "collections": return collection(object, in: graph)
        case "builtins", "__builtin__": return try builtin(object, in: graph)
        case "pathlib", "pathlib._local": return .value(.string(PythonText(graph).path(object.arguments)))
        default: break
        }
        if constructor.module == "__torch__" || constructor.module.hasPrefix("__torch__.") {
            guard let state = object.state, case .dictionary(let items) = graph[state] else { return .module([]) }
            return .module(items)
        }
        if constructor.module.hasPrefix("torch.distributed"), constructor.name == "DTensor" {
            throw CairnError(.unsupported, "a distributed tensor that is pickled whole cannot be read")
        }
        if constructor.module.hasPrefix("numpy") {
            return try PickledArray.leaf(object, in: graph) ?? .opaque(constructor.path)
        }
        switch constructor.path {
        case "torch.Size":
            guard let sizes = object.arguments.first.flatMap({ graph.integers($0) }) else { break }
            return .value(.list(sizes.map { .integer(Int64($0)) }))
        case "torch.device":
            let parts = object.arguments.map { PythonText(graph).plain($0) }
            return .value(.string(parts.joined(separator: ":")))
        case "torch.serialization._get_layout":
            guard let name = object.arguments.first.flatMap({ graph.string($0) }) else { break }
            return .value(.string(name))
        case "_codecs.encode":
            guard let bytes = latin1(object, in: graph) else { break }
            return .value(.bytes(bytes))
        // Where DeepSpeed keeps a part of a parameter: a number of elements and a start.
        case "deepspeed.utils.tensor_fragment.fragment_address", "deepspeed.runtime.bf16_optimizer.fragment_address":
            guard let state = object.state, case .dictionary(let items) = graph[state] else { break }
            return .mapping(items)
        case "UserDict.IterableUserDict", "UserDict.UserDict":
            guard let data = PickledInstance(object, in: graph).attribute("data", in: graph),
                let items = pairs(data, in: graph)
            else { break }
            return .mapping(items)
        default: break
        }
        if let module = try PickledModule(object, in: graph) { return .network(module) }
        return .opaque(PickledInstance(object, in: graph).constructor.path)
    }

    /// The keys and values of a dictionary of any kind, in turn; `nil` for something else.
    static func pairs(_ reference: PickleGraph.Reference, in graph: PickleGraph) -> [PickleGraph.Reference]? {
        if case .dictionary(let items) = graph[reference] { return items }
        guard let object = graph.object(reference),
            ["collections", "builtins", "__builtin__"].contains(object.constructor.module),
            case .mapping(let items) = collection(object, in: graph)
        else { return nil }
        return items
    }

    /// The elements of a set, however the protocol spells one.
    static func elements(ofSet reference: PickleGraph.Reference, in graph: PickleGraph) -> [PickleGraph.Reference] {
        if case .set(let elements) = graph[reference] { return elements }
        guard let object = graph.object(reference), object.constructor.isBuiltin else { return [] }
        return (object.arguments.first.flatMap { graph.sequence($0) } ?? []) + object.elements
    }

    /// The bytes that `_codecs.encode(text, "latin1")` would make: how protocol 2 writes bytes.
    static func latin1(_ object: PickleGraph.Object, in graph: PickleGraph) -> [UInt8]? {
        guard let text = object.arguments.first.flatMap({ graph.string($0) }) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            guard let byte = UInt8(exactly: scalar.value) else { return nil }
            bytes.append(byte)
        }
        return bytes
    }

    /// The bytes behind a reference, also as protocol 2 writes them.
    static func bytes(_ reference: PickleGraph.Reference, in graph: PickleGraph) -> [UInt8]? {
        switch graph[reference] {
        case .bytes(let bytes): bytes
        case .string(let text): text.isEmpty ? [] : nil
        case .object(let index): bytes(graph.objects[Int(index)], in: graph)
        default: nil
        }
    }

    private static func bytes(_ object: PickleGraph.Object, in graph: PickleGraph) -> [UInt8]? {
        switch object.constructor.path {
        case "_codecs.encode": latin1(object, in: graph)
        // No bytes at all have a spelling of their own.
        case "__builtin__.bytes", "builtins.bytes": object.arguments.isEmpty ? [] : nil
        default: nil
        }
    }

    private static func collection(_ object: PickleGraph.Object, in graph: PickleGraph) -> PickledLeaf {
        switch object.constructor.name {
        case "OrderedDict", "defaultdict", "Counter", "dict":
            var items: [PickleGraph.Reference] = []
            if let first = object.arguments.first {
                if case .dictionary(let pairs) = graph[first] { items = pairs }
                // Python 2 gives the pairs as lists.
                for pair in graph.sequence(first) ?? [] {
                    guard let both = graph.sequence(pair), both.count == 2 else {
                        return .opaque(object.constructor.path)
                    }
                    items += both
                }
            }
            return .mapping(items + object.items)
        case "UserDict":
            guard let data = PickledInstance(object, in: graph).attribute("data", in: graph) else { break }
            return pairs(data, in: graph).map { .mapping($0) } ?? .opaque(object.constructor.path)
        case "deque":
            return .sequence((object.arguments.first.flatMap { graph.sequence($0) } ?? []) + object.elements)
        default: break
        }
        return .opaque(object.constructor.path)
    }

    private static func builtin(
        _ object: PickleGraph.Object, in graph: PickleGraph
    ) throws(CairnError) -> PickledLeaf {
        let first = object.arguments.first
        switch object.constructor.name {
        case "set", "frozenset":
            return try set((first.flatMap { graph.sequence($0) } ?? []) + object.elements, in: graph)
        case "bytes", "bytearray":
            guard let first else { return .value(.bytes([])) }
            if let bytes = bytes(first, in: graph) ?? latin1(object, in: graph) { return .value(.bytes(bytes)) }
            if let numbers = graph.integers(first) {
                let bytes = numbers.compactMap { UInt8(exactly: $0) }
                if bytes.count == numbers.count { return .value(.bytes(bytes)) }
            }
        case "complex":
            var parts: [Value] = []
            for argument in object.arguments {
                if case .double(let part) = graph[argument] { parts.append(.double(part)) }
            }
            if parts.count == 2 { return .value(.list(parts)) }
        case "list": return .sequence((first.flatMap { graph.sequence($0) } ?? []) + object.elements)
        case "tuple":
            let elements = first.flatMap { graph.sequence($0) } ?? []
            // How Paddle pickles a parameter: its name and its elements. Python's own tuples need no call.
            if elements.count == 2, graph.string(elements[0]) != nil, let object = graph.object(elements[1]),
                object.constructor.module.hasPrefix("numpy"),
                let array = try PickledArray.leaf(object, in: graph), case .held = array
            {
                return array
            }
            return .tuple(elements)
        case "dict": return collection(object, in: graph)
        default: break
        }
        return .opaque(object.constructor.path)
    }

    /// A set's elements as a list, in the order of their text: a set has none of its own.
    private static func set(
        _ elements: [PickleGraph.Reference], in graph: PickleGraph
    ) throws(CairnError) -> PickledLeaf {
        let text = PythonText(graph)
        let sorted = elements.map { (text.plain($0), $0) }.sorted { ExactString($0.0) < ExactString($1.0) }
        return .sequence(sorted.map(\.1))
    }
}
