public import CairnTensor

/// What one rank holds.
extension ShardedShape {
    /// The shape of a rank's local tensor, padding included; `[count]` when flattened.
    ///
    /// `nil` where the tensor is absent, and for ranks that the mesh does not have.
    public func localShape(ofRank rank: Int) -> Shape? {
        guard let coordinates = presentCoordinates(ofRank: rank) else { return nil }
        switch arrangement {
        case .explicit: return layout.explicit.flatMap { ExplicitRegions.localShape(of: $0[rank]) }
        case .sharded(let dimensions, let flat):
            let extents = dimensions.map { $0.part(at: coordinates).localExtent }
            guard let flat else { return Shape(extents) }
            return [flat.run(of: coordinates[flat.axis], count: extents.reduce(1, *)).count]
        }
    }

    /// What a rank holds, in the order of its local tensor; empty where that is absent, empty or all padding.
    public func fragments(ofRank rank: Int) -> [LocalFragment] {
        guard let coordinates = presentCoordinates(ofRank: rank) else { return [] }
        switch arrangement {
        case .explicit: return layout.explicit.map { ExplicitRegions.fragments(of: $0[rank]) } ?? []
        case .sharded(let dimensions, let flat):
            let parts = dimensions.map { $0.part(at: coordinates) }
            guard let flat else { return Self.boxes(parts) }
            return Self.fragments(of: flat, at: coordinates[flat.axis], parts: parts)
        }
    }

    /// The index of the partial value that a rank holds; 0 unless the layout is partial.
    ///
    /// Row-major over the partial axes in the mesh's order.
    package func partialIndex(ofRank rank: Int) -> Int {
        guard rank >= 0, rank < layout.mesh.rankCount else { return 0 }
        return partialIndex(at: layout.mesh.coordinates(ofRank: rank))
    }

    func partialIndex(at coordinates: [Int]) -> Int {
        var partialIndex = 0
        for (axis, role) in axisRoles.enumerated() where role == .partial {
            partialIndex = partialIndex * layout.mesh.axes[axis].size + coordinates[axis]
        }
        return partialIndex
    }

    private func presentCoordinates(ofRank rank: Int) -> [Int]? {
        guard rank >= 0, rank < layout.mesh.rankCount else { return nil }
        let coordinates = layout.mesh.coordinates(ofRank: rank)
        for (axis, role) in axisRoles.enumerated() {
            if case .present(let list) = role, !list.contains(coordinates[axis]) { return nil }
        }
        return coordinates
    }

    static func fragments(of flat: FlatCut, at coordinate: Int, parts: [DimensionPart]) -> [LocalFragment] {
        let count = parts.reduce(1) { $0 * $1.localExtent }
        return FlatFragments.fragments(of: flat.run(of: coordinate, count: count), parts: parts)
    }

    /// The boxes that the pieces of all dimensions form, row-major; with `query` only those that meet it.
    static func boxes(_ parts: [DimensionPart], meeting query: Region? = nil) -> [LocalFragment] {
        var boxes: [LocalFragment] = []
        var offsets = [Int](repeating: 0, count: parts.count)
        var locals = offsets
        var extents = offsets
        let chosen = parts.indices.map { dimension in
            guard let query else { return parts[dimension].pieces }
            let range = query.range(dimension)
            return parts[dimension].pieces.filter { $0.globalRange.overlaps(range) }
        }

        func choose(_ dimension: Int) {
            guard dimension < parts.count else {
                let shape = Shape(extents)
                boxes.append(
                    LocalFragment(
                        global: Region(trustedOffsets: offsets, shape: shape),
                        local: Region(trustedOffsets: locals, shape: shape)))
                return
            }
            for piece in chosen[dimension] {
                offsets[dimension] = piece.global
                locals[dimension] = piece.local
                extents[dimension] = piece.count
                choose(dimension + 1)
            }
        }

        choose(0)
        return boxes
    }
}

extension Region {
    /// What the region covers of a dimension.
    func range(_ dimension: Int) -> Range<Int> { offsets[dimension]..<offsets[dimension] + shape[dimension] }
}

/// Which ranks hold which regions.
extension ShardedShape {
    /// A box and all ranks that hold it: replicas of each other.
    package struct Holder: Sendable, Hashable {
        /// The part of the asked region.
        package let region: Region
        /// Which partial value of a partial tensor; 0 otherwise.
        package let partialIndex: Int
        /// The ranks.
        package let ranks: RankSet
    }

    /// A distinct shard: its ranks, and its fragments that meet a region.
    struct Shard {
        /// For the axes that hold partial values: all.
        var ranks: RankSet
        /// For each mesh axis; empty when explicit.
        var choices: [RankSet.Choice]
        var fragments: [LocalFragment]
        /// The position of an explicit region among them.
        var explicitIndex: Int?
    }

    /// Which ranks hold what of a region: boxes that lie inside, each with its replicas; every element of it once for each
    /// partial value and distinct shard that has it. What of the region lies outside of the tensor has no holder.
    ///
    /// The effort grows with what is found, not with the number of ranks.
    package func holders(of region: Region) -> [Holder] {
        var holders: [Holder] = []
        forEachShard(meeting: region) { shard in
            for fragment in shard.fragments {
                guard let common = fragment.global.intersection(region) else { continue }
                for partialIndex in 0..<partialCount {
                    let ranks = partialCount == 1 ? shard.ranks : self.ranks(of: shard, partialIndex: partialIndex)
                    holders.append(Holder(region: common, partialIndex: partialIndex, ranks: ranks))
                }
            }
        }
        return holders
    }

    /// The replicas of a shard's partial value.
    func ranks(of shard: Shard, partialIndex: Int) -> RankSet {
        guard partialCount > 1 else { return shard.ranks }
        var choices = shard.choices
        var rest = partialIndex
        for (axis, role) in axisRoles.enumerated().reversed() where role == .partial {
            choices[axis] = .only(rest % layout.mesh.axes[axis].size)
            rest /= layout.mesh.axes[axis].size
        }
        return RankSet(mesh: layout.mesh, choices: choices)
    }

    /// Calls `body` for every distinct shard that has elements in `region` with the fragments, whole, that do.
    func forEachShard(meeting region: Region, _ body: (Shard) -> Void) {
        // Also nothing when the region is of another number of dimensions.
        guard let query = region.intersection(Region(whole: shape)) else { return }
        switch arrangement {
        case .explicit(let regions):
            for index in regions.indices(meeting: query) {
                let entry = regions.entries[index]
                let fragment = LocalFragment(global: entry.region, local: Region(whole: entry.region.shape))
                body(
                    Shard(
                        ranks: RankSet(listed: entry.ranks), choices: [], fragments: [fragment], explicitIndex: index))
            }
        case .sharded(let dimensions, let flat):
            var choices = axisRoles.map { role -> RankSet.Choice in
                if case .present(let list) = role { .some(list) } else { .all }
            }
            let hits = dimensions.indices.map { dimensions[$0].hits(query.range($0)) }
            var parts: [DimensionPart] = []

            func visit(_ fragments: [LocalFragment]) {
                guard !fragments.isEmpty else { return }
                body(
                    Shard(
                        ranks: RankSet(mesh: layout.mesh, choices: choices), choices: choices, fragments: fragments,
                        explicitIndex: nil))
            }

            func choose(_ dimension: Int) {
                guard dimension < dimensions.count else {
                    guard let flat else { return visit(Self.boxes(parts, meeting: query)) }
                    for coordinate in Self.flatCoordinates(flat, parts, meeting: query) {
                        choices[flat.axis] = .only(coordinate)
                        visit(
                            Self.fragments(of: flat, at: coordinate, parts: parts)
                                .filter { $0.global.intersection(query) != nil })
                    }
                    return
                }
                for hit in hits[dimension] {
                    for (cut, coordinate) in zip(dimensions[dimension].cuts, hit.coordinates) {
                        choices[cut.axis] = .only(coordinate)
                    }
                    parts.append(hit.part)
                    choose(dimension + 1)
                    parts.removeLast()
                }
            }

            choose(0)
        }
    }

    /// The coordinates between the first and the last element of the query in the local tensor.
    private static func flatCoordinates(
        _ flat: FlatCut, _ parts: [DimensionPart], meeting query: Region
    ) -> ClosedRange<Int> {
        var first = 0
        var last = 0
        var count = 1
        for (dimension, part) in parts.enumerated() {
            let range = query.range(dimension)
            var low = part.localExtent
            var high = 0
            for piece in part.pieces where piece.globalRange.overlaps(range) {
                let common = piece.globalRange.clamped(to: range)
                low = min(low, piece.local + common.lowerBound - piece.global)
                high = max(high, piece.local + common.upperBound - 1 - piece.global)
            }
            first = first * part.localExtent + low
            last = last * part.localExtent + high
            count *= part.localExtent
        }
        return flat.coordinate(at: first, count: count)...flat.coordinate(at: last, count: count)
    }
}

/// A box of the whole tensor and where it stands in a rank's local tensor.
///
/// Both have the same elements in the same row-major order. For flattened and explicit local tensors of one
/// dimension `local` is one-dimensional; otherwise both have the same extents.
public struct LocalFragment: Sendable, Hashable {
    /// Where it stands in the whole tensor.
    public let global: Region
    /// Where it stands in the rank's local tensor.
    public let local: Region

    package init(global: Region, local: Region) {
        self.global = global
        self.local = local
    }
}

extension LocalFragment: CustomStringConvertible {
    /// `[0..<4, 8..<16] at [0..<4, 0..<8]`
    public var description: String { "\(global) at \(local)" }
}
