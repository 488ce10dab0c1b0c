public import CairnTensor

/// Which ranks hold which regions.
extension ShardedShape {
    /// A box and all ranks that hold it: replicas of each other.
    public struct Holder: Sendable, Hashable {
        /// The part of the asked region.
        public let region: Region
        /// Which partial value of a partial tensor; 0 otherwise.
        public let partialIndex: Int
        /// The ranks.
        public let ranks: RankSet
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
    public func holders(of region: Region) -> [Holder] {
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
