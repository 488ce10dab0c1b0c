import CairnBase
import CairnCheckpoint
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
            return try view(object, in: graph)
        case "_rebuild_parameter", "_rebuild_parameter_with_state":
            guard let tensor = arguments.first else { throw malformed(object) }
            return try PickledLeaf(tensor, in: graph, depth: depth + 1)
        case "_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor", "_rebuild_device_tensor_from_cpu_tensor":
            return try deviceTensor(object, in: graph, depth: depth)
        case "_rebuild_from_type_v2":
            // The function, the type, its arguments, and attributes that are not part of the elements.
            guard arguments.count == 4, let function = graph.global(arguments[0]),
                let inner = graph.sequence(arguments[2])
            else { throw malformed(object) }
            if function.name == "_rebuild_wrapper_subclass",
                let part = try RankPart.leaf(arguments[1], inner, state: arguments[3], in: graph, depth: depth)
            {
                return part
            }
            return try leaf(.init(constructor: function, arguments: inner), in: graph, depth: depth + 1)
        default:
            if let described = try DescribedTensor.leaf(object, in: graph) { return described }
            let isWrapper = object.constructor.name.contains("wrapper")
            throw CairnError(
                .unsupported,
                "this kind of tensor cannot be read: "
                    + (isWrapper ? "it is a subclass that wraps others" : "it is built in a way of its own"),
                .init(
                    found: isWrapper
                        ? arguments.first.flatMap { graph.global($0)?.path } : object.constructor.path,
                    advice: "save it as a dense tensor"))
        }
    }

    /// A tensor of an accelerator that was pickled by way of the processor's memory: the elements, and their type there.
    private static func deviceTensor(
        _ object: PickleGraph.Object, in graph: PickleGraph, depth: Int
    ) throws(CairnError) -> PickledLeaf {
        guard object.arguments.count >= 2, let type = TorchTypes.scalarType(graph.global(object.arguments[1])) else {
            throw malformed(object)
        }
        let leaf = try PickledLeaf(object.arguments[0], in: graph, depth: depth + 1)
        switch leaf {
        case .view(let view) where view.scalarType == type: return leaf
        case .held(let tensor) where tensor.scalarType == type: return leaf
        // NumPy has no BF16: such tensors are pickled as wider floats.
        case .held(let tensor) where ScalarConversion.isSupported(from: tensor.scalarType, to: type):
            var converted = try Tensor(zeros: type, tensor.shape)
            var bytes = converted.mutableBytes
            try ScalarConversion.convert(tensor.bytes, from: tensor.scalarType, into: &bytes, to: type)
            return .held(converted)
        default: throw malformed(object)
        }
    }

    private static func view(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> PickledLeaf {
        let arguments = object.arguments
        let isThird = object.constructor.name == "_rebuild_tensor_v3"
        guard arguments.count >= (isThird ? 7 : 4), let offset = graph.integer(arguments[1]),
            let extents = graph.integers(arguments[2]), let strides = graph.integers(arguments[3])
        else { throw malformed(object) }
        let held = try HeldStorage(arguments[0], in: graph)
        let name = try name(arguments[0], in: graph)
        guard let storage = held?.name ?? name else { throw malformed(object) }
        guard let scalarType = isThird ? TorchTypes.scalarType(graph.global(arguments[6])) : storage.scalarType else {
            throw CairnError(
                .unsupported, "the type of a tensor's elements is unknown",
                .init(found: graph.global(arguments[6])?.path))
        }
        var view = try TorchView(storage, scalarType, extents: extents, strides: strides, offset: offset)
        let metadata = isThird ? 7 : 6
        if arguments.count > metadata {
            view.isConjugated = isSet("conj", in: arguments[metadata], graph)
            view.isNegated = isSet("neg", in: arguments[metadata], graph)
        }
        guard let held else { return .view(view) }
        return .held(try held.tensor(view))
    }

    /// The storage that a tensor is a view of.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for one of an unknown type.
    static func name(
        _ reference: PickleGraph.Reference, in graph: PickleGraph
    ) throws(CairnError) -> TorchStorageName? {
        guard case .persistent(let identification) = graph[reference] else { return nil }
        if let name = TorchStorageName(identification, in: graph) { return name }
        guard let parts = graph.sequence(identification), parts.count >= 5,
            let type = graph.global(parts[1]), TorchTypes.storageType(type) == nil
        else { return nil }
        throw CairnError(.unsupported, "the type of a tensor's elements is unknown", .init(found: type.path))
    }

    private static func isSet(_ key: String, in metadata: PickleGraph.Reference, _ graph: PickleGraph) -> Bool {
        guard let value = graph.value(key, of: metadata), case .bool(true) = graph[value] else { return false }
        return true
    }

    static func malformed(_ object: PickleGraph.Object) -> CairnError {
        CairnError(
            .malformed, "a tensor of the pickle is not described as PyTorch does it",
            .init(found: object.constructor.path))
    }
}

/// A storage whose bytes stand in the pickle itself, as Python's own `pickle` has them: a file of `torch.save` in the old
/// format that holds nothing else.
struct HeldStorage {
    let name: TorchStorageName
    private let file: LegacyTorchFile

    /// `nil` for a storage that is elsewhere.
    init?(_ reference: PickleGraph.Reference, in graph: PickleGraph) throws(CairnError) {
        guard let object = graph.object(reference), object.constructor.path == "torch.storage._load_from_bytes",
            let bytes = object.arguments.first.flatMap({ PickledLeaf.bytes($0, in: graph) }),
            LegacyTorchFile.isBeginning(Array(bytes.prefix(LegacyTorchFile.signatureByteCount)))
        else { return nil }
        file = try LegacyTorchFile(BytesFile(bytes, name: "a storage within the pickle"))
        guard let name = try PickledTensor.name(file.graph.root, in: file.graph) else { return nil }
        self.name = name
    }

    /// A view of the storage, in memory of its own.
    func tensor(_ view: TorchView) throws(CairnError) -> Tensor {
        let storage = try file.storage(view.storage, byteCount: view.storageByteCount)
        var tensor = try Tensor(zeros: view.scalarType, view.shape)
        guard view.shape.elementCount > 0 else { return tensor }
        var bytes = tensor.mutableBytes
        try view.content(storage, isBigEndian: false).read(Region(whole: view.shape), into: &bytes)
        return tensor
    }
}

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
