import CairnBase
import CairnCheckpoint
import CairnTensor

/// The keys of a pickled dictionary as steps of paths, each with its value, in their order.
struct PickledKeys {
    private(set) var entries: [(key: StateKey, value: PickleGraph.Reference)] = []
    /// Those that are only text which shows what they were.
    private(set) var shown: [StateKey] = []

    /// The last value of a repeated key counts. Keys that are not plain values go by their text; different ones of one
    /// text get numbers behind it.
    init(_ items: [PickleGraph.Reference], in graph: PickleGraph) {
        var positions: [StateKey: Int] = [:]
        var others: [PickleGraph.Reference: Int] = [:]
        var later: [(position: Int, reference: PickleGraph.Reference)] = []
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            let (reference, value) = (items[index], items[index + 1])
            if let key = Self.exact(reference, in: graph) {
                if let position = positions[key] {
                    entries[position].value = value
                    continue
                }
                positions[key] = entries.count
                entries.append((key, value))
            } else if let position = others[reference] {
                entries[position].value = value
            } else {
                others[reference] = entries.count
                later.append((entries.count, reference))
                entries.append((StateKey(""), value))
            }
        }
        var texts = Set(positions.keys.map { ExactString($0.text) })
        let text = PythonText(graph)
        var repeated = Set<Int>()
        for (position, reference) in later {
            let value = Self.value(reference, in: graph, depth: 0).map { StateKey.value($0) }
            if let value, let earlier = positions[value] {
                entries[earlier].value = entries[position].value
                repeated.insert(position)
                continue
            }
            var key = value ?? StateKey(text.key(reference))
            let plain = key.text
            var number = 2
            while texts.contains(ExactString(key.text)) {
                key = StateKey("\(plain)#\(number)")
                number += 1
            }
            if key != value { shown.append(key) }
            texts.insert(ExactString(key.text))
            positions[key] = position
            entries[position].key = key
        }
        if !repeated.isEmpty { entries = entries.indices.filter { !repeated.contains($0) }.map { entries[$0] } }
    }

    /// A key that is neither text nor an integer, where it is made of plain values.
    private static func value(_ reference: PickleGraph.Reference, in graph: PickleGraph, depth: Int) -> Value? {
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
                guard let value = value(element, in: graph, depth: depth + 1) else { return nil }
                values.append(value)
            }
            return .list(values)
        default: return nil
        }
    }

    private static func exact(_ reference: PickleGraph.Reference, in graph: PickleGraph) -> StateKey? {
        switch graph[reference] {
        case .string(let text): StateKey(text)
        case .integer(let value): .index(Int(value))
        default: nil
        }
    }
}

extension StateKind {
    /// What a node of a pickle is to Python beyond what ``PickledLeaf`` makes of it; `nil` for what that says all of.
    init?(_ reference: PickleGraph.Reference, in graph: PickleGraph) {
        switch graph[reference] {
        case .set: self = .set
        case .bigInteger(let bytes):
            guard PythonInteger.value(bytes).text != nil else { return nil }
            self = .bigInteger
        case .global(let index):
            let global = graph.globals[Int(index)]
            guard global.module == "torch", global.name.utf8.first.map({ $0 >= 0x61 }) == true else { return nil }
            self = TorchTypes.isConstant(global.name) ? .scalarType : .constant
        case .object(let index): self.init(graph.objects[Int(index)], in: graph)
        default: return nil
        }
    }

    private init?(_ object: PickleGraph.Object, in graph: PickleGraph) {
        let constructor = object.constructor
        switch constructor.module {
        case "torch._utils", "torch._tensor", "torch.nested._internal.nested_tensor": self.init(tensor: object, in: graph)
        case "builtins", "__builtin__":
            switch constructor.name {
            case "set": self = .set
            case "frozenset": self = .frozenSet
            case "bytearray": self = .byteArray
            case "complex": self = .complex
            default: return nil
            }
        case "collections":
            switch constructor.name {
            case "OrderedDict": self = .orderedDictionary
            case "defaultdict": self = .defaultDictionary
            case "Counter": self = .counter
            case "deque": self = .deque
            default: return nil
            }
        case "pathlib", "pathlib._local": self = .path
        default:
            if constructor.module.hasPrefix("numpy") {
                switch constructor.name {
                case "scalar": self = .arrayScalar
                case "dtype": self = .arrayType
                default: self = .array
                }
                return
            }
            switch constructor.path {
            case "torch.Size": self = .size
            case "torch.device": self = .device
            case "torch.serialization._get_layout": self = .layout
            default: return nil
            }
        }
    }

    private init?(tensor object: PickleGraph.Object, in graph: PickleGraph) {
        let arguments = object.arguments
        func isTrue(_ index: Int) -> Bool {
            guard arguments.indices.contains(index), case .bool(true) = graph[arguments[index]] else { return false }
            return true
        }
        switch object.constructor.name {
        case "_rebuild_tensor_v2", "_rebuild_tensor_v3":
            guard isTrue(4) else { return nil }
            self = .gradient
        case "_rebuild_parameter": self = .parameter(requiresGradient: isTrue(1))
        case "_rebuild_parameter_with_state": self = .subclass
        case "_rebuild_from_type_v2":
            let function = arguments.first.flatMap { graph.global($0)?.name }
            self = function == "_rebuild_njt" || function == "_rebuild_nested_tensor" ? .nestedTensor : .subclass
        case "_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor": self = .sparseTensor
        case "_rebuild_qtensor":
            let storage = arguments.first.flatMap { reference -> PickleGraph.Global? in
                guard case .persistent(let identification) = graph[reference],
                    let parts = graph.sequence(identification), parts.count > 1
                else { return nil }
                return graph.global(parts[1])
            }
            let isPacked = storage.flatMap { TorchTypes.quantizedType($0.name)?.isPacked } ?? true
            self = isPacked ? .packedTensor : .quantizedTensor
        case "_rebuild_meta_tensor_no_storage": self = .metaTensor
        case "_rebuild_nested_tensor", "_rebuild_njt": self = .nestedTensor
        default: return nil
        }
    }
}
