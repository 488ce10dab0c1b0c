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
    public func partialIndex(ofRank rank: Int) -> Int {
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
