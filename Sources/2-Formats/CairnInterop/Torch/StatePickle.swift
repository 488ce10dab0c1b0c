import CairnBase
import CairnCheckpoint
import CairnTensor

/// The pickle of a state whose tensors are views of storages beside it, as `torch.load` with `weights_only` takes it.
struct StatePickle {
    /// A tensor and the number of its storage.
    struct Stored {
        var description: TensorDescription
        var storage: Int
    }

    var writer = PickleWriter()
    private let tensors: [ExactString: Stored]
    /// The storage that comes next if all are named in their order.
    private var nextStorage = 0
    private var isOrdered = true

    private init(_ tensors: [ExactString: Stored]) { self.tensors = tensors }

    /// The pickle of a nested state.
    ///
    /// - Parameter tensors: What the names in `root` stand for.
    /// - Throws: ``CairnError/Code/unsupported`` for tensors that PyTorch has no type for and values that no pickle holds.
    static func bytes(of root: StateNode, tensors: [Stored]) throws(CairnError) -> [UInt8] {
        try pickle(of: root, tensors: tensors).bytes
    }

    /// The same, and whether it names the storages in the order of their numbers.
    static func pickle(
        of root: StateNode, tensors: [Stored]
    ) throws(CairnError) -> (bytes: [UInt8], isOrdered: Bool) {
        var byName: [ExactString: Stored] = [:]
        for tensor in tensors { byName[ExactString(tensor.description.name)] = tensor }
        var pickle = StatePickle(byName)
        try pickle.write(root)
        let isOrdered = pickle.isOrdered
        return (pickle.writer.finish(), isOrdered)
    }

    /// - Parameter isElement: Whether it stands in a set, which holds no other sets.
    mutating func write(_ node: StateNode, isElement: Bool = false) throws(CairnError) {
        switch node {
        case .value(let value): try writer.value(value)
        case .tensor(let name): try write(tensor: name)
        case .typed(let kind, let inner): try write(inner, of: kind, isElement: isElement)
        case .list(let nodes):
            writer.emptyList()
            writer.mark()
            for node in nodes { try write(node) }
            writer.appendAll()
        case .tuple(let nodes):
            writer.mark()
            for node in nodes { try write(node, isElement: isElement) }
            writer.tuple()
        case .dictionary(let members):
            writer.emptyDictionary()
            try setMembers(members)
        }
    }

    /// Sets entries in the dictionary on top.
    mutating func setMembers(_ members: [StateNode.Member]) throws(CairnError) {
        writer.mark()
        var keys: Set<StateKey> = []
        for member in members {
            guard keys.insert(member.key).inserted else {
                throw CairnError(
                    .unsupported, "two things would have one key of a dictionary",
                    .init(found: member.key.text.debugDescription, advice: "rename one of them"))
            }
            switch member.key {
            case .name(let name): try writer.string(name)
            case .index(let index): writer.integer(index)
            case .value(let value): try write(key: value)
            }
            try write(member.node)
        }
        writer.setAll()
    }

    /// A key that is not text; lists stand for tuples.
    private mutating func write(key: Value) throws(CairnError) {
        guard case .list(let elements) = key else { return try writer.value(key) }
        writer.mark()
        for element in elements { try write(key: element) }
        writer.tuple()
    }

    mutating func write(tensor name: String, requiresGradient: Bool = false) throws(CairnError) {
        let tensor = try stored(name)
        do throws(CairnError) {
            try write(tensor, requiresGradient: requiresGradient)
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }

    func stored(_ name: String) throws(CairnError) -> Stored {
        guard let tensor = tensors[ExactString(name)] else {
            throw CairnError(.invalidArgument, "the state names a tensor that is not there", .init(tensor: name))
        }
        return tensor
    }

    private mutating func write(_ tensor: Stored, requiresGradient: Bool) throws(CairnError) {
        let type = tensor.description.scalarType
        let extents = try TorchTypes.extents(of: tensor.description)
        guard let name = TorchTypes.name(of: type) else {
            throw CairnError(
                .unsupported, "PyTorch has no such element type",
                .init(found: "\(type)", advice: "leave the tensor out or convert it"))
        }
        let storageClass = TorchTypes.storageClass(of: type)
        writer.global("torch._utils", storageClass == nil ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2")
        writer.mark()
        try writeStorage(of: tensor, named: storageClass)
        writer.integer(0)
        writer.tuple(extents)
        writer.tuple(Self.strides(extents))
        writer.bool(requiresGradient)
        orderedDictionary()
        if storageClass == nil { writer.global("torch", name) }
        writer.tuple()
        writer.reduce()
    }

    /// An empty `OrderedDict`.
    mutating func orderedDictionary() {
        writer.global("collections", "OrderedDict")
        writer.emptyTuple()
        writer.reduce()
    }

    /// The storage of a tensor.
    ///
    /// - Parameter storageClass: Its class; `nil` for bytes.
    mutating func writeStorage(of tensor: Stored, named storageClass: String?) throws(CairnError) {
        if tensor.storage >= nextStorage {
            isOrdered = isOrdered && tensor.storage == nextStorage
            nextStorage = tensor.storage + 1
        }
        writer.mark()
        try writer.string("storage")
        writer.global(storageClass == nil ? "torch.storage" : "torch", storageClass ?? "UntypedStorage")
        try writer.string(String(tensor.storage))
        try writer.string("cpu")
        let width = storageClass == nil ? 1 : tensor.description.scalarType.byteWidth ?? 1
        writer.integer(tensor.description.byteCount / width)
        writer.tuple()
        writer.persistent()
    }

    /// The strides of contiguous elements, as PyTorch has them where an extent is zero.
    static func strides(_ extents: [Int]) -> [Int] {
        var strides: [Int] = []
        var next = 1
        for extent in extents.reversed() {
            strides.append(next)
            next *= max(1, extent)
        }
        return strides.reversed()
    }
}

extension TorchTypes {
    /// A tensor's extents as PyTorch counts them: packed elements in pairs.
    static func extents(of tensor: TensorDescription) throws(CairnError) -> [Int] {
        guard tensor.scalarType == .f4 else { return tensor.shape.extents }
        guard let last = tensor.shape.extents.last, last.isMultiple(of: 2) else {
            throw CairnError(
                .unsupported, "PyTorch has packed elements only where rows have an even number of them",
                .init(tensor: tensor.name, found: "\(tensor.shape)", advice: "leave the tensor out"))
        }
        return tensor.shape.extents.dropLast() + [last / 2]
    }
}
