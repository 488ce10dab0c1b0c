import CairnBase
import CairnTensor

/// What one dimension of a mesh of ranks does to a tensor, as PyTorch's `DTensor` has it.
enum DistributedPlacement {
    case replicate
    case shard(dimension: Int)
    /// Divided as if another dimension of the mesh had divided it into so many parts before.
    case strided(dimension: Int, factor: Int)
    /// The ranks hold partial values, to be reduced by an operation.
    case partial(String)

    init(_ reference: PickleGraph.Reference, in graph: PickleGraph) throws(CairnError) {
        guard let object = graph.object(reference) else { throw RankPart.malformed("a placement") }
        let instance = PickledInstance(object, in: graph)
        let name = instance.constructor.name
        let first = instance.arguments.first
        let dimension = (instance.attribute("dim", in: graph) ?? first).flatMap { graph.integer($0) }
        switch name {
        case "Replicate": self = .replicate
        case "Shard":
            guard let dimension else { throw RankPart.malformed(name) }
            self = .shard(dimension: dimension)
        case "_StridedShard", "StridedShard":
            let reference =
                instance.attribute("split_factor", in: graph) ?? instance.attribute("_split_factor", in: graph)
                ?? instance.arguments.dropFirst().last
            guard let dimension, let factor = reference.flatMap({ graph.integer($0) }), factor > 0 else {
                throw RankPart.malformed(name)
            }
            self = .strided(dimension: dimension, factor: factor)
        case "Partial", "_Partial", "_MaskPartial", "MaskPartial", "_NormPartial":
            let operation = instance.attribute("reduce_op", in: graph) ?? first
            self = .partial(operation.map { PythonText(graph).plain($0) } ?? "sum")
        default:
            throw CairnError(
                .unsupported, "a distributed tensor is placed in a way that is not known",
                .init(expected: "Shard, _StridedShard, Replicate or Partial", found: name))
        }
    }

    var isStrided: Bool {
        if case .strided = self { return true }
        return false
    }

    var description: String {
        switch self {
        case .replicate: "Replicate()"
        case .shard(let dimension): "Shard(\(dimension))"
        case .strided(let dimension, let factor): "_StridedShard(\(dimension), \(factor))"
        case .partial(let operation): "Partial(\(operation))"
        }
    }

    /// For each dimension of a tensor the ranges of places that the rank at a coordinate has, one behind the other.
    ///
    /// - Parameter order: The dimensions of the mesh in the order in which they shard the tensor.
    static func owned(
        _ placements: [DistributedPlacement], order: [Int], extents: [Int], mesh: [Int], at coordinate: [Int]
    ) throws(CairnError) -> [[Range<Int>]] {
        var owned = extents.map { [0..<$0] }
        for axis in order {
            let dimension: Int
            switch placements[axis] {
            case .replicate, .partial: continue
            case .shard(let given), .strided(let given, _): dimension = given < 0 ? given + extents.count : given
            }
            guard extents.indices.contains(dimension) else {
                throw RankPart.malformed("\(placements[axis].description) of \(extents)")
            }
            if case .strided(_, let factor) = placements[axis] {
                guard factor <= 1 << 16 else { throw RankPart.malformed(placements[axis].description) }
                owned[dimension] = joined(
                    (0..<factor).flatMap { part in
                        chunk(chunk(owned[dimension], part, of: factor), coordinate[axis], of: mesh[axis])
                    })
            } else {
                owned[dimension] = chunk(owned[dimension], coordinate[axis], of: mesh[axis])
            }
        }
        return owned
    }

    /// One of so many parts as `torch.chunk` makes them: all but the last ones are equally long.
    private static func chunk(_ ranges: [Range<Int>], _ position: Int, of count: Int) -> [Range<Int>] {
        let length = ranges.reduce(0) { $0 + $1.count }
        let size = length / count + (length % count > 0 ? 1 : 0)
        guard let product = size.multiplied(checked: position), product < length else { return [] }
        return part(ranges, from: product, upTo: min(length, product + size))
    }

    private static func part(_ ranges: [Range<Int>], from begin: Int, upTo end: Int) -> [Range<Int>] {
        var part: [Range<Int>] = []
        var position = 0
        for range in ranges {
            let (first, last) = (max(begin, position), min(end, position + range.count))
            if first < last {
                part.append(range.lowerBound + first - position..<range.lowerBound + last - position)
            }
            position += range.count
        }
        return part
    }

    /// The same with neighbours made one.
    private static func joined(_ ranges: [Range<Int>]) -> [Range<Int>] {
        var joined: [Range<Int>] = []
        for range in ranges {
            if let last = joined.last, last.upperBound == range.lowerBound {
                joined[joined.count - 1] = last.lowerBound..<range.upperBound
            } else {
                joined.append(range)
            }
        }
        return joined
    }
}

/// The ranks of a `DeviceMesh`, and where in it the rank is that pickled it.
struct DeviceMesh {
    var extents: [Int]
    var coordinate: [Int]

    /// The layout of the mesh stands in one of three ways: a layout for each dimension since PyTorch 2.11, one for all
    /// in 2.9 and 2.10, and before that a tensor of ranks.
    init(_ reference: PickleGraph.Reference, in graph: PickleGraph) throws(CairnError) {
        guard let instance = graph.object(reference).map({ PickledInstance($0, in: graph) }),
            let extents = Self.extents(of: instance, in: graph),
            extents.allSatisfy({ $0 > 0 })
        else { throw RankPart.malformed("DeviceMesh") }
        guard let coordinate = instance.attribute("_coordinate_on_dim", in: graph).flatMap({ graph.integers($0) }),
            coordinate.count == extents.count, zip(coordinate, extents).allSatisfy({ (0..<$1).contains($0) })
        else {
            throw CairnError(
                .unsupported, "a distributed tensor does not say which part of it a rank has",
                .init(expected: "the rank's coordinate in its mesh of \(extents)"))
        }
        self.extents = extents
        self.coordinate = coordinate
    }

    private static func extents(of mesh: PickledInstance, in graph: PickleGraph) -> [Int]? {
        if let layout = mesh.attribute("_layout", in: graph).flatMap({ graph.object($0) }) {
            let layout = PickledInstance(layout, in: graph)
            if let axes = layout.attribute("axes", in: graph).flatMap({ graph.sequence($0) }) {
                var extents: [Int] = []
                for axis in axes {
                    guard
                        let shape = graph.object(axis)
                            .flatMap({ PickledInstance($0, in: graph).attribute("shape", in: graph) }),
                        let extent = product(shape, in: graph)
                    else { return nil }
                    extents.append(extent)
                }
                return extents
            }
            guard let shape = layout.attribute("shape", in: graph) else { return nil }
            if let extent = graph.integer(shape) { return [extent] }
            var extents: [Int] = []
            for part in graph.sequence(shape) ?? [] {
                guard let extent = product(part, in: graph) else { return nil }
                extents.append(extent)
            }
            return extents
        }
        guard let ranks = mesh.attribute("mesh", in: graph) ?? mesh.attribute("_mesh", in: graph),
            case .view(let view)? = try? PickledLeaf(ranks, in: graph)
        else { return nil }
        return view.shape.extents
    }

    /// The product of an integer, or of what is in tuples in each other.
    private static func product(
        _ reference: PickleGraph.Reference, in graph: PickleGraph, depth: Int = 0
    ) -> Int? {
        if let number = graph.integer(reference) { return number }
        guard depth < 8, let parts = graph.sequence(reference) else { return nil }
        var result = 1
        for part in parts {
            guard let factor = product(part, in: graph, depth: depth + 1),
                let next = result.multiplied(checked: factor)
            else { return nil }
            result = next
        }
        return result
    }
}
