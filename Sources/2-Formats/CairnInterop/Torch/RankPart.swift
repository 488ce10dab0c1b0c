import CairnBase
import CairnCheckpoint
import CairnTensor

/// The part of a tensor that one rank has saved: a `DTensor` or a `ShardedTensor` of torch.distributed.
///
/// Source: `torch/distributed/tensor/placement_types.py`, `torch/distributed/device_mesh.py` and
/// `torch/distributed/_shard/sharded_tensor` of PyTorch 2.13, and files of older versions.
struct RankPart {
    /// A box of the whole that is a box of elements which the rank has.
    struct OwnedBox {
        var whole: Region
        /// The same box in the rank's own tensor.
        var local: Region
        /// Which of ``locals``.
        var position: Int
    }

    let scalarType: ScalarType
    /// The shape of the whole.
    let shape: Shape
    /// How the whole is sharded, for people: `Shard(0) over 2 ranks`.
    let division: String
    /// How many ranks hold parts of it, where that is said.
    let rankCount: Int?
    /// Where the rank is among them, in each dimension of their mesh.
    let coordinate: [Int]
    /// How the ranks' partial values are to be reduced.
    let reduction: String?
    /// Whether every rank has all of it.
    let isUnsharded: Bool
    let pieces: [OwnedBox]
    /// The tensors that the rank has, as leaves.
    let locals: [PickledLeaf]

    /// A tensor of a class that wraps others, if it is one of the two.
    ///
    /// - Returns: `nil` for another class. A part that is the whole is returned as such.
    static func leaf(
        _ type: PickleGraph.Reference, _ arguments: [PickleGraph.Reference], state: PickleGraph.Reference,
        in graph: PickleGraph, depth: Int
    ) throws(CairnError) -> PickledLeaf? {
        guard let type = graph.global(type) else { return nil }
        let part: RankPart
        switch type.name {
        case "DTensor" where type.module.hasPrefix("torch.distributed"):
            part = try RankPart(distributed: state, arguments, in: graph, depth: depth)
        case "ShardedTensor" where type.module.hasPrefix("torch.distributed"):
            part = try RankPart(sharded: state, in: graph, depth: depth)
        default: return nil
        }
        let whole = Region(whole: part.shape)
        // One that is whole only because the others are empty stays a part of what they have together.
        if part.isUnsharded, part.pieces.count == 1, part.pieces[0].whole == whole, part.pieces[0].local == whole {
            return part.locals[0]
        }
        return .part(part)
    }

    static func malformed(_ what: String) -> CairnError {
        CairnError(
            .malformed, "a distributed tensor of the pickle is not described as PyTorch does it",
            .init(found: what))
    }

    /// A rank's own tensor with its type and shape.
    private static func local(
        _ reference: PickleGraph.Reference, in graph: PickleGraph, depth: Int
    ) throws(CairnError) -> (leaf: PickledLeaf, scalarType: ScalarType, shape: Shape) {
        let leaf = try PickledLeaf(reference, in: graph, depth: depth + 1)
        switch leaf {
        case .view(let view): return (leaf, view.scalarType, view.shape)
        case .held(let tensor): return (leaf, tensor.scalarType, tensor.shape)
        default:
            throw CairnError(.unsupported, "a rank's part of a distributed tensor is not a plain tensor")
        }
    }

    // MARK: DTensor

    private init(
        distributed state: PickleGraph.Reference, _ arguments: [PickleGraph.Reference], in graph: PickleGraph, depth: Int
    ) throws(CairnError) {
        // Attributes, or those of the class and those in slots.
        let parts = graph.sequence(state) ?? [state]
        func attribute(_ name: String) -> PickleGraph.Reference? {
            parts.lazy.compactMap { graph.value(name, of: $0) }.first
        }
        guard let reference = attribute("_local_tensor"), let spec = attribute("_spec"),
            let specification = graph.object(spec).map({ PickledInstance($0, in: graph) }),
            let meshReference = specification.attribute("mesh", in: graph) ?? specification.attribute("device_mesh", in: graph),
            let placementList = specification.attribute("placements", in: graph).flatMap({ graph.sequence($0) }),
            arguments.count >= 3, let extents = graph.integers(arguments[2])
        else { throw Self.malformed("DTensor") }
        let local = try Self.local(reference, in: graph, depth: depth)
        let shape = try Shape(checking: extents)
        let mesh = try DeviceMesh(meshReference, in: graph)
        var placements: [DistributedPlacement] = []
        for placement in placementList { placements.append(try DistributedPlacement(placement, in: graph)) }
        guard placements.count == mesh.extents.count else { throw Self.malformed("\(placements.count) placements") }
        scalarType = local.scalarType
        self.shape = shape
        rankCount = mesh.extents.reduce(1, { $0.multiplied(checked: $1) ?? Int.max })
        coordinate = mesh.coordinate
        division =
            placements.map(\.description).joined(separator: ", ") + " over "
            + mesh.extents.map { "\($0)" }.joined(separator: "×") + " ranks"
        reduction =
            zip(placements, mesh.extents).lazy.compactMap { placement, extent -> String? in
                guard extent > 1, case .partial(let operation) = placement else { return nil }
                return operation
            }.first
        isUnsharded = zip(placements, mesh.extents).allSatisfy { placement, extent in
            if case .replicate = placement { return true }
            return extent == 1
        }
        let order = try Self.order(of: specification, placements, in: graph)
        let owned = try DistributedPlacement.owned(
            placements, order: order, extents: extents, mesh: mesh.extents, at: mesh.coordinate)
        guard owned.map({ $0.reduce(0) { $0 + $1.count } }) == local.shape.extents else {
            throw CairnError(
                .mismatch, "a rank's part of a distributed tensor has another shape than its placements say",
                .init(
                    expected: "\(owned.map { $0.reduce(0) { $0 + $1.count } }) of \(extents), \(division)",
                    found: "\(local.shape)"))
        }
        locals = [local.leaf]
        pieces = try Self.pieces(owned)
    }

    /// The order in which mesh dimensions shard the tensor, where that is not their own.
    private static func order(
        of specification: PickledInstance, _ placements: [DistributedPlacement], in graph: PickleGraph
    ) throws(CairnError) -> [Int] {
        var order = Array(placements.indices)
        guard let entries = specification.attribute("shard_order", in: graph).flatMap({ graph.sequence($0) }) else {
            return order
        }
        for entry in entries {
            let object = graph.object(entry)
            guard let parts = object?.arguments ?? graph.sequence(entry), parts.count == 2,
                let dimensions = graph.integers(parts[1])
            else { throw Self.malformed("shard_order") }
            // Strided placements say the same by themselves, read in the order of the mesh.
            guard dimensions != dimensions.sorted(), !placements.contains(where: \.isStrided) else { continue }
            guard Set(dimensions).count == dimensions.count, dimensions.allSatisfy(placements.indices.contains)
            else { throw Self.malformed("shard_order \(dimensions)") }
            // Those that shard this dimension of the tensor take each other's places.
            for (position, dimension) in zip(dimensions.sorted(), dimensions) { order[position] = dimension }
        }
        return order
    }

    /// Every combination of the ranges of the dimensions.
    private static func pieces(_ owned: [[Range<Int>]]) throws(CairnError) -> [OwnedBox] {
        guard owned.reduce(1, { $0.multiplied(checked: $1.count) ?? Int.max }) <= 1 << 16 else {
            throw CairnError(.unsupported, "a rank's part of a distributed tensor consists of too many pieces")
        }
        var boxes: [(whole: [Range<Int>], local: [Int])] = [([], [])]
        for ranges in owned {
            var next: [(whole: [Range<Int>], local: [Int])] = []
            for box in boxes {
                var begin = 0
                for range in ranges {
                    next.append((box.whole + [range], box.local + [begin]))
                    begin += range.count
                }
            }
            boxes = next
        }
        var pieces: [OwnedBox] = []
        for box in boxes {
            let shape = try Shape(checking: box.whole.map(\.count))
            guard shape.elementCount > 0 else { continue }
            pieces.append(
                OwnedBox(
                    whole: try Region(offsets: box.whole.map(\.lowerBound), shape: shape),
                    local: try Region(offsets: box.local, shape: shape), position: 0))
        }
        return pieces
    }

    // MARK: ShardedTensor

    /// The state is the local shards, the metadata of all, the process group, the specification, and a flag.
    private init(sharded state: PickleGraph.Reference, in graph: PickleGraph, depth: Int) throws(CairnError) {
        guard let parts = graph.sequence(state), parts.count >= 2, let shards = graph.sequence(parts[0]),
            let metadata = graph.object(parts[1]).map({ PickledInstance($0, in: graph) }),
            let size = metadata.attribute("size", in: graph).flatMap({ graph.integers($0) }),
            let all = metadata.attribute("shards_metadata", in: graph).flatMap({ graph.sequence($0) }),
            let properties = metadata.attribute("tensor_properties", in: graph).flatMap({ graph.object($0) })
        else { throw Self.malformed("ShardedTensor") }
        shape = try Shape(checking: size)
        var type = Self.elementType(properties, in: graph)
        var pieces: [OwnedBox] = []
        var locals: [PickledLeaf] = []
        for shard in shards {
            guard let instance = graph.object(shard).map({ PickledInstance($0, in: graph) }),
                let tensor = instance.attribute("tensor", in: graph),
                let metadata = instance.attribute("metadata", in: graph).flatMap({ graph.object($0) })
                    .map({ PickledInstance($0, in: graph) }),
                let offsets = metadata.attribute("shard_offsets", in: graph).flatMap({ graph.integers($0) }),
                let sizes = metadata.attribute("shard_sizes", in: graph).flatMap({ graph.integers($0) })
            else { throw Self.malformed("a shard") }
            let local = try Self.local(tensor, in: graph, depth: depth)
            let box = try Shape(checking: sizes)
            guard local.shape == box, type == nil || type == local.scalarType else {
                throw CairnError(
                    .mismatch, "a shard is not what its metadata say",
                    .init(expected: "\(box)", found: "\(local.scalarType)\(local.shape)"))
            }
            type = local.scalarType
            let whole = try Region(offsets: offsets, shape: box)
            guard whole.isInside(shape) else { throw Self.malformed("a shard at \(offsets)") }
            if box.elementCount > 0 {
                pieces.append(OwnedBox(whole: whole, local: Region(whole: box), position: locals.count))
            }
            locals.append(local.leaf)
        }
        guard let type else { throw Self.malformed("a type of elements") }
        scalarType = type
        self.pieces = pieces
        self.locals = locals
        division = "\(shards.count) of \(all.count) shards"
        rankCount = nil
        coordinate = []
        reduction = nil
        isUnsharded = all.count == 1
    }

    private static func elementType(_ properties: PickleGraph.Object, in graph: PickleGraph) -> ScalarType? {
        let instance = PickledInstance(properties, in: graph)
        let first = instance.attribute("dtype", in: graph) ?? instance.state.flatMap { graph.sequence($0)?.first }
        return TorchTypes.scalarType(first.flatMap { graph.global($0) })
    }
}
