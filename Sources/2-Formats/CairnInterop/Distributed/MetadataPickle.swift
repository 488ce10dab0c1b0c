import CairnBase
import CairnCheckpoint
import CairnTensor

/// The `.metadata` file of torch.distributed.checkpoint, as PyTorch 2.1 and all later versions read it.
///
/// Three choices make that so: what came later and has a default (`storage_meta`) is left out or None; the properties of
/// tensors are of the class that 2.1 has (`torch.distributed._shard.sharded_tensor.metadata`), which is there still, with
/// a state of five parts; the pickle has protocol 2.
struct MetadataPickle {
    typealias Location = DistributedMetadata.Location

    struct Tensor {
        var name: String
        var path: [StateKey]
        var description: TensorDescription
        var pieces: [(region: Region, location: Location)]
    }

    struct Object {
        var name: String
        var path: [StateKey]
        var location: Location
    }

    private static let module = "torch.distributed.checkpoint.metadata"
    private static let oldModule = "torch.distributed._shard.sharded_tensor.metadata"
    private static let version = "1.0.0"

    private var writer = PickleWriter()

    static func bytes(_ tensors: [Tensor], _ objects: [Object]) throws(CairnError) -> [UInt8] {
        var pickle = MetadataPickle()
        try pickle.write(tensors, objects)
        return pickle.writer.finish()
    }

    private mutating func write(_ tensors: [Tensor], _ objects: [Object]) throws(CairnError) {
        begin(Self.module, "Metadata")
        try writer.string("state_dict_metadata")
        writer.emptyDictionary()
        writer.mark()
        for tensor in tensors {
            try writer.string(tensor.name)
            try write(tensor)
        }
        for object in objects {
            try writer.string(object.name)
            writer.global(Self.module, "BytesStorageMetadata")
            writer.emptyTuple()
            writer.newObject()
        }
        writer.setAll()
        try writer.string("planner_data")
        writer.emptyDictionary()
        writer.mark()
        for (name, path) in tensors.map({ ($0.name, $0.path) }) + objects.map({ ($0.name, $0.path) }) {
            try writer.string(name)
            try write(path)
        }
        writer.setAll()
        try writer.string("storage_data")
        writer.emptyDictionary()
        writer.mark()
        for tensor in tensors {
            for (index, piece) in tensor.pieces.enumerated() {
                let offsets = try Self.counts(piece.region.offsets, tensor.description)
                try writeIndex(tensor.name, offsets, index)
                try write(piece.location)
            }
        }
        for object in objects {
            try writeIndex(object.name, nil, nil)
            try write(object.location)
        }
        writer.setAll()
        try writer.string("storage_meta")
        writer.none()
        try writer.string("version")
        try writer.string(Self.version)
        end()
    }

    /// An object of a data class, whose fields then come as keys and values.
    private mutating func begin(_ module: String, _ name: String) {
        writer.global(module, name)
        writer.emptyTuple()
        writer.newObject()
        writer.emptyDictionary()
        writer.mark()
    }

    private mutating func end() {
        writer.setAll()
        writer.build()
    }

    private mutating func write(_ tensor: Tensor) throws(CairnError) {
        guard let type = TorchTypes.name(of: tensor.description.scalarType) else {
            throw CairnError(
                .unsupported, "PyTorch has no such element type",
                .init(
                    tensor: tensor.name, found: "\(tensor.description.scalarType)",
                    advice: "leave the tensor out or convert it"))
        }
        begin(Self.module, "TensorStorageMetadata")
        try writer.string("properties")
        writer.global(Self.oldModule, "TensorProperties")
        writer.emptyTuple()
        writer.newObject()
        writer.mark()
        writer.global("torch", type)
        writer.global("torch.serialization", "_get_layout")
        writer.mark()
        try writer.string("torch.strided")
        writer.tuple()
        writer.reduce()
        writer.bool(false)
        writer.global(Self.oldModule, "MEM_FORMAT_ENCODING")
        writer.tuple([0])
        writer.reduce()
        writer.bool(false)
        writer.tuple()
        writer.build()
        try writer.string("size")
        size(try TorchTypes.extents(of: tensor.description))
        try writer.string("chunks")
        writer.emptyList()
        writer.mark()
        for piece in tensor.pieces {
            begin(Self.module, "ChunkStorageMetadata")
            try writer.string("offsets")
            size(try Self.counts(piece.region.offsets, tensor.description))
            try writer.string("sizes")
            size(try Self.counts(piece.region.shape.extents, tensor.description))
            end()
        }
        writer.appendAll()
        end()
    }

    /// PyTorch counts packed elements in pairs.
    private static func counts(_ counts: [Int], _ tensor: TensorDescription) throws(CairnError) -> [Int] {
        guard tensor.scalarType == .f4, let last = counts.last else { return counts }
        guard last.isMultiple(of: 2) else {
            throw CairnError(.unsupported, "packed elements are cut within a byte", .init(tensor: tensor.name))
        }
        return counts.dropLast() + [last / 2]
    }

    private mutating func size(_ extents: [Int]) {
        writer.global("torch", "Size")
        writer.mark()
        writer.tuple(extents)
        writer.tuple()
        writer.reduce()
    }

    private mutating func write(_ path: [StateKey]) throws(CairnError) {
        writer.mark()
        for key in path {
            switch key {
            case .name(let name): try writer.string(name)
            case .index(let index): writer.integer(index)
            case .value: try writer.string(key.text)
            }
        }
        writer.tuple()
    }

    private mutating func writeIndex(_ name: String, _ offsets: [Int]?, _ index: Int?) throws(CairnError) {
        begin(Self.module, "MetadataIndex")
        try writer.string("fqn")
        try writer.string(name)
        if let offsets {
            try writer.string("offset")
            size(offsets)
        }
        try writer.string("index")
        if let index { writer.integer(index) } else { writer.none() }
        end()
    }

    private mutating func write(_ location: Location) throws(CairnError) {
        begin("torch.distributed.checkpoint.filesystem", "_StorageInfo")
        try writer.string("relative_path")
        try writer.string(location.file)
        try writer.string("offset")
        writer.integer(location.offset)
        try writer.string("length")
        writer.integer(location.byteCount)
        end()
    }
}

/// A nested state in the flat form in which torch.distributed.checkpoint stores it: every tensor and every value under the
/// keys on the way to it, joined by dots.
///
/// As `flatten_state_dict` does it, dictionaries are entered always, lists where a tensor or a dictionary is in them;
/// other lists are one value. Tuples with tensors in them are entered too, since only so the tensors are tensors. Source:
/// `torch/distributed/checkpoint/_traverse.py` of PyTorch 2.13.
struct FlattenedState {
    enum Leaf {
        case tensor(String)
        case value(StateNode)
    }

    struct FlatEntry {
        var name: String
        var path: [StateKey]
        var leaf: Leaf
    }

    private(set) var entries: [FlatEntry] = []

    /// - Parameter root: A dictionary; anything else is taken for its one entry.
    /// - Throws: ``CairnError/Code/unsupported`` when two paths cannot be told apart by name.
    init(_ root: StateNode, file: String) throws(CairnError) {
        var leaves: [(path: [StateKey], leaf: Leaf)] = []
        switch root {
        case _ where root.members != nil: Self.add(root, at: [], to: &leaves)
        case .tensor(let name): Self.add(root, at: [StateKey(name)], to: &leaves)
        default: Self.add(root, at: ["value"], to: &leaves)
        }
        let names = try StateNames.names(of: leaves.map(\.path), fallback: "value", file: file)
        for (name, leaf) in zip(names, leaves) {
            entries.append(FlatEntry(name: name, path: leaf.path, leaf: leaf.leaf))
        }
    }

    private static func add(
        _ node: StateNode, at path: [StateKey], to leaves: inout [(path: [StateKey], leaf: Leaf)]
    ) {
        switch node {
        case .tensor(let name): leaves.append((path, .tensor(name)))
        case .dictionary(let members) where !members.isEmpty:
            for member in members { add(member.node, at: path + [StateKey(member.key.text)], to: &leaves) }
        case .value(.dictionary(let members)) where !members.isEmpty:
            for (key, value) in members.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
                add(.value(value), at: path + [StateKey(key)], to: &leaves)
            }
        case .typed(_, let inner) where inner.hasTensor || inner.members?.isEmpty == false:
            add(inner, at: path, to: &leaves)
        case .list(let nodes) where !nodes.allSatisfy(isTerminal), .tuple(let nodes) where nodes.contains(where: \.hasTensor):
            for (index, node) in nodes.enumerated() { add(node, at: path + [.index(index)], to: &leaves) }
        case .value(.list(let values)) where !values.allSatisfy({ isTerminal(.value($0)) }):
            for (index, value) in values.enumerated() { add(.value(value), at: path + [.index(index)], to: &leaves) }
        // An empty dictionary is not a leaf to PyTorch, which loses it.
        default: leaves.append((path, .value(node)))
        }
    }

    /// Whether a list that holds this may stay one value.
    static func isTerminal(_ node: StateNode) -> Bool {
        switch node {
        case .tensor, .dictionary, .value(.dictionary): false
        case .list(let nodes): nodes.allSatisfy(isTerminal)
        case .value(.list(let values)): values.allSatisfy { isTerminal(.value($0)) }
        case .tuple(let nodes): !nodes.contains(where: \.hasTensor)
        case .typed(_, let inner): !inner.hasTensor && inner.members == nil
        case .value: true
        }
    }
}
