import CairnCheckpoint

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
