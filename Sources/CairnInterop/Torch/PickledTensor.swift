import CairnBase
import CairnTensor

/// The ways in which PyTorch pickles a tensor. Source: `torch/_utils.py` and `torch/_tensor.py` of PyTorch 2.15.
enum PickledTensor {
    /// How many functions may be wrapped around the one that makes the tensor.
    private static let greatestDepth = 16

    static func leaf(
        _ object: PickleGraph.Object, in graph: PickleGraph, depth: Int
    ) throws(CairnError) -> PickledLeaf {
        guard depth <= greatestDepth else {
            throw CairnError(.unsupported, "a tensor of the pickle is wrapped too often")
        }
        let arguments = object.arguments
        switch object.constructor.name {
        case "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3":
            return .view(try view(object, in: graph))
        case "_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_device_tensor_from_numpy":
            guard let tensor = arguments.first else { throw malformed(object) }
            return try PickledLeaf(tensor, in: graph, depth: depth + 1)
        case "_rebuild_from_type_v2":
            // The function, the type, its arguments, and attributes that are no part of the elements.
            guard arguments.count == 4, let function = graph.global(arguments[0]),
                let inner = graph.sequence(arguments[2])
            else { throw malformed(object) }
            return try leaf(.init(constructor: function, arguments: inner), in: graph, depth: depth + 1)
        default:
            throw CairnError(
                .unsupported, "this kind of tensor cannot be read: \(Self.kind(object.constructor.name))",
                .init(found: object.constructor.path, advice: "save it as a dense tensor"))
        }
    }

    private static func kind(_ name: String) -> String {
        switch true {
        case name.contains("sparse"): "it is sparse"
        case name.contains("qtensor"): "it is quantized"
        case name.contains("meta"): "it has no elements"
        case name.contains("nested"): "it is nested"
        case name.contains("wrapper"): "it is a subclass that wraps others"
        default: "it is built in a way of its own"
        }
    }

    private static func view(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> TorchView {
        let arguments = object.arguments
        let isThird = object.constructor.name == "_rebuild_tensor_v3"
        guard arguments.count >= (isThird ? 7 : 4), case .persistent(let identification) = graph[arguments[0]],
            let storage = graph.sequence(identification), storage.count >= 5, graph.string(storage[0]) == "storage",
            let key = graph.string(storage[2]), let count = graph.integer(storage[4]), count >= 0,
            let offset = graph.integer(arguments[1]), let extents = graph.integers(arguments[2]),
            let strides = graph.integers(arguments[3])
        else { throw malformed(object) }
        guard let storageType = TorchTypes.storageType(graph.global(storage[1])),
            let scalarType = isThird ? TorchTypes.scalarType(graph.global(arguments[6])) : storageType
        else {
            let named = graph.global(isThird ? arguments[6] : storage[1])?.path
            throw CairnError(.unsupported, "the type of a tensor's elements is unknown", .init(found: named))
        }
        guard let byteCount = count.multiplied(checked: storageType.byteWidth ?? 1) else { throw malformed(object) }
        var view = try TorchView(
            storage: key, storageByteCount: byteCount, scalarType, extents: extents, strides: strides, offset: offset)
        let metadata = isThird ? 7 : 6
        if arguments.count > metadata {
            view.isConjugated = isSet("conj", in: arguments[metadata], graph)
            view.isNegated = isSet("neg", in: arguments[metadata], graph)
        }
        return view
    }

    private static func isSet(_ key: String, in metadata: PickleGraph.Reference, _ graph: PickleGraph) -> Bool {
        guard let value = graph.value(key, of: metadata), case .bool(true) = graph[value] else { return false }
        return true
    }

    private static func malformed(_ object: PickleGraph.Object) -> CairnError {
        CairnError(
            .malformed, "a tensor of the pickle is not described as PyTorch does it",
            .init(found: object.constructor.path))
    }
}
