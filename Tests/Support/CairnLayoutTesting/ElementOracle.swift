package import CairnLayout
package import CairnTensor

/// What each rank holds, found by following every element through every step: slow, and so simple that it can be judged
/// by reading. Nothing here comes from the module that it judges.
package enum ElementOracle {
    /// A rank's local tensor, each element the number of the global element that stands there, -1 for padding.
    package struct Local: Equatable {
        package var extents: [Int]
        package var elements: [Int]
    }

    /// The local tensor of a rank, or `nil` where it is absent.
    package static func local(_ layout: Layout, _ shape: Shape, rank: Int) -> Local? {
        if let explicit = layout.explicit {
            guard !explicit[rank].isEmpty else { return nil }
            let elements = explicit[rank].flatMap { Self.elements(of: $0, in: shape) }
            return Local(
                extents: explicit[rank].count == 1 ? explicit[rank][0].shape.extents : [elements.count],
                elements: elements)
        }
        var padded = shape.extents
        for (dimension, extent) in layout.padding { padded[dimension] = extent }
        var local = Local(extents: padded, elements: [])
        for index in indices(of: padded) {
            let isPadding = zip(index, shape.extents).contains { $0 >= $1 }
            local.elements.append(isPadding ? -1 : number(of: index, in: shape.extents))
        }
        for step in layout.steps {
            guard let coordinate = layout.mesh.coordinate(ofRank: rank, along: step.axis),
                let parts = layout.mesh.size(of: step.axis)
            else { return nil }
            switch step.placement {
            case .replicate, .partial: break
            case .present(let list): if !list.contains(coordinate) { return nil }
            case .flatten(let flattening):
                let count = local.elements.count
                let owners = (0..<count).map { owner(of: $0, flattening, count: count, parts: parts) }
                local.elements = zip(local.elements, owners).filter { $0.1 == coordinate }.map(\.0)
                local.extents = [local.elements.count]
            case .shard(let sharding):
                let owners = Self.owners(along: local.extents[sharding.dimension], sharding, parts: parts)
                local.elements = zip(local.elements, indices(of: local.extents))
                    .filter { owners[$0.1[sharding.dimension]] == coordinate }.map(\.0)
                local.extents[sharding.dimension] = owners.filter { $0 == coordinate }.count
            }
        }
        return local
    }

    /// For each index along a dimension the coordinate that gets it.
    package static func owners(along extent: Int, _ sharding: Sharding, parts: Int) -> [Int] {
        var owners: [Int] = []
        for _ in 0..<sharding.repeats {
            for section in sharding.sections {
                let size = section.size ?? extent / sharding.repeats
                for index in 0..<size { owners.append(owner(of: index, section, size: size, parts: parts)) }
            }
        }
        return owners
    }

    private static func owner(of index: Int, _ section: Sharding.Section, size: Int, parts: Int) -> Int {
        let units = size / section.unit + (size % section.unit == 0 ? 0 : 1)
        switch section.division {
        case .even: return index / (size / parts)
        case .chunked:
            let each = units / parts + (units % parts == 0 ? 0 : 1)
            return index / section.unit / each
        case .balanced:
            // Deal the units out in rounds, then count.
            var dealt = [Int](repeating: 0, count: parts)
            for unit in 0..<units { dealt[unit % parts] += 1 }
            return part(of: index / section.unit, sizes: dealt)
        case .sizes(let sizes): return part(of: index, sizes: sizes)
        }
    }

    private static func owner(of index: Int, _ flattening: Flattening, count: Int, parts: Int) -> Int {
        switch flattening.partition {
        case .perTensor: index / (count / parts + (count % parts == 0 ? 0 : 1))
        case .equal(let size): (flattening.start + index) / size
        case .cuts(let cuts):
            (0..<parts).first { cuts[$0] <= flattening.start + index && flattening.start + index < cuts[$0 + 1] } ?? -1
        }
    }

    private static func part(of index: Int, sizes: [Int]) -> Int {
        var rest = index
        for (part, size) in sizes.enumerated() {
            if rest < size { return part }
            rest -= size
        }
        return -1
    }

    /// The numbers, row-major in the tensor, of a region's elements in its own row-major order.
    package static func elements(of region: Region, in shape: Shape) -> [Int] {
        indices(of: region.shape.extents).map { index in
            number(of: zip(index, region.offsets).map { $0 + $1 }, in: shape.extents)
        }
    }

    private static func number(of index: [Int], in extents: [Int]) -> Int {
        zip(index, extents).reduce(0) { $0 * $1.1 + $1.0 }
    }

    private static func indices(of extents: [Int]) -> [[Int]] {
        extents.reduce([[]]) { indices, extent in indices.flatMap { index in (0..<extent).map { index + [$0] } } }
    }
}
