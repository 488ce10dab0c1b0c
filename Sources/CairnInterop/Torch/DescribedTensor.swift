import CairnBase
import CairnTensor

/// Tensors that are not plain array of numbers: sparse, quantized, nested, and those without elements.
///
/// What they consist of becomes tensors of their own below the tensor's name, and what describes it becomes values
/// there: nothing is lost, and nothing is taken for dense. Source: `torch/_utils.py` of PyTorch 2.15.
enum DescribedTensor {
    /// `nil` for a function that makes none of these.
    static func leaf(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> PickledLeaf? {
        switch object.constructor.name {
        case "_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor": try sparse(object, in: graph)
        case "_rebuild_qtensor": try quantized(object, in: graph)
        case "_rebuild_meta_tensor_no_storage": try meta(object, in: graph)
        case "_rebuild_nested_tensor": try nested(object)
        case "_rebuild_njt": try jagged(object, in: graph)
        default: nil
        }
    }

    private static func sparse(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> PickledLeaf {
        guard object.arguments.count >= 2, let parts = graph.sequence(object.arguments[1]) else {
            throw PickledTensor.malformed(object)
        }
        guard case .value(.string(let layout)) = try PickledLeaf(object.arguments[0], in: graph) else {
            throw PickledTensor.malformed(object)
        }
        let indices: [String]
        switch layout {
        case "torch.sparse_coo": indices = ["indices"]
        case "torch.sparse_csr", "torch.sparse_bsr": indices = ["crow_indices", "col_indices"]
        case "torch.sparse_csc", "torch.sparse_bsc": indices = ["ccol_indices", "row_indices"]
        default:
            throw CairnError(
                .unsupported, "this kind of tensor cannot be read: its layout is unknown", .init(found: layout))
        }
        let names = indices + ["values"]
        guard parts.count > names.count, let size = graph.integers(parts[names.count]) else {
            throw PickledTensor.malformed(object)
        }
        var described = [
            PickledPart("layout", .value(.string(layout))), PickledPart("shape", .value(list(size))),
        ]
        if parts.count > names.count + 1, case .bool(let isCoalesced) = graph[parts[names.count + 1]] {
            described.append(PickledPart("is_coalesced", .value(.bool(isCoalesced))))
        }
        return .described(described + zip(names, parts).map { PickledPart($0, .node($1)) })
    }

    private static func quantized(
        _ object: PickleGraph.Object, in graph: PickleGraph
    ) throws(CairnError) -> PickledLeaf {
        let arguments = object.arguments
        guard arguments.count >= 5, let storage = try PickledTensor.name(arguments[0], in: graph),
            let type = TorchTypes.quantizedType(storage.className), let offset = graph.integer(arguments[1]),
            let extents = graph.integers(arguments[2]), let strides = graph.integers(arguments[3]),
            let parameters = graph.sequence(arguments[4]), parameters.count >= 3, let scheme = graph.global(parameters[0])
        else { throw PickledTensor.malformed(object) }
        var parts = [
            PickledPart("dtype", .value(.string(type.name))), PickledPart("qscheme", .value(.string(scheme.path))),
        ]
        if type.isPacked {
            // Several numbers in a byte: the bytes as they are stored, and what the view is.
            let bytes = try TorchView(
                storage, .u8, extents: [storage.byteCount], strides: [1], offset: 0)
            parts += [
                PickledPart("shape", .value(list(extents))), PickledPart("stride", .value(list(strides))),
                PickledPart("storage_offset", .value(.integer(Int64(offset)))),
                PickledPart("packed", .leaf(.view(bytes))),
            ]
        } else {
            let numbers = try TorchView(
                storage, storage.scalarType, extents: extents, strides: strides, offset: offset)
            parts.append(PickledPart("int_repr", .leaf(.view(numbers))))
        }
        if parameters.count == 3 {
            return .described(
                parts + [PickledPart("scale", .node(parameters[1])), PickledPart("zero_point", .node(parameters[2]))])
        }
        return .described(
            parts + [
                PickledPart("scales", .node(parameters[1])), PickledPart("zero_points", .node(parameters[2])),
                PickledPart("axis", .node(parameters[3])),
            ])
    }

    /// A tensor of the device `meta`, which has a shape and no elements.
    private static func meta(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> PickledLeaf {
        guard object.arguments.count >= 3, let type = graph.global(object.arguments[0]),
            let size = graph.integers(object.arguments[1]), let strides = graph.integers(object.arguments[2])
        else { throw PickledTensor.malformed(object) }
        return .described([
            PickledPart("device", .value(.string("meta"))), PickledPart("dtype", .value(.string(type.path))),
            PickledPart("shape", .value(list(size))), PickledPart("stride", .value(list(strides))),
        ])
    }

    /// Tensors of several sizes in one buffer.
    private static func nested(_ object: PickleGraph.Object) throws(CairnError) -> PickledLeaf {
        let names = ["buffer", "sizes", "strides", "storage_offsets"]
        guard object.arguments.count == names.count else { throw PickledTensor.malformed(object) }
        return .described(
            [PickledPart("layout", .value(.string("torch.nested_strided")))]
                + zip(names, object.arguments).map { PickledPart($0, .node($1)) })
    }

    /// The same where the sizes differ in one dimension only.
    private static func jagged(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> PickledLeaf {
        guard let arguments = object.arguments.first, let values = graph.value("values", of: arguments),
            let offsets = graph.value("offsets", of: arguments)
        else { throw PickledTensor.malformed(object) }
        var parts = [
            PickledPart("layout", .value(.string("torch.jagged"))), PickledPart("values", .node(values)),
            PickledPart("offsets", .node(offsets)),
        ]
        if let lengths = graph.value("lengths", of: arguments) { parts.append(PickledPart("lengths", .node(lengths))) }
        if let dimension = graph.value("_ragged_idx", of: arguments) {
            parts.append(PickledPart("ragged_dimension", .node(dimension)))
        }
        return .described(parts)
    }

    private static func list(_ numbers: [Int]) -> Value { .list(numbers.map { .integer(Int64($0)) }) }
}

/// Something that a described tensor consists of.
struct PickledPart {
    enum Content {
        case value(Value)
        case node(PickleGraph.Reference)
        indirect case leaf(PickledLeaf)
    }

    /// What comes behind the tensor's name.
    var name: String
    var content: Content

    init(_ name: String, _ content: Content) {
        self.name = name
        self.content = content
    }
}
