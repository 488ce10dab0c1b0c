package import CairnBase
public import CairnTensor

/// A layout applied to a shape, and checked: from here on every question about which rank holds what has an answer.
///
/// Nothing in it grows with the number of ranks, unless the layout is explicit; answers are computed when asked for.
public struct ShardedShape: Sendable {
    /// What an axis does to the tensor.
    package enum AxisRole: Sendable, Hashable {
        case replicates
        case shards
        /// Only at these coordinates, ascending.
        case present([Int])
        /// Every coordinate has a partial value of its own.
        case partial
    }

    enum Arrangement: Sendable {
        case sharded(dimensions: [ShardedDimension], flat: FlatCut?)
        case explicit(ExplicitRegions)
    }

    /// No rank may hold more boxes of a tensor: a layout from a hostile file must not fill the memory.
    package static let maximumFragmentCount = 1 << 17
    /// Dimensions that a tensor with a layout may have: boxes are made dimension within dimension.
    package static let maximumDimensionCount = 255

    /// The layout.
    package let layout: Layout
    /// The shape of the whole tensor, without padding.
    package let shape: Shape
    /// How many partial values the tensor is stored in: 1 unless the layout is partial.
    package let partialCount: Int
    /// What each mesh axis does, in the mesh's order.
    package let axisRoles: [AxisRole]
    let arrangement: Arrangement

    /// Whether partial values are stored in a leading dimension, even if there is only one.
    package var isPartial: Bool { axisRoles.contains(.partial) }

    /// Whether local tensors are stretches of a row-major run, of one dimension.
    package var isFlat: Bool {
        if case .sharded(_, .some) = arrangement { true } else { false }
    }

    /// Applies a layout to a shape.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``, naming axis and dimension, when a step names a dimension that the
    ///   shape does not have, an extent cannot be sharded as asked, sizes or flat buffers do not fit, or an explicit
    ///   region lies outside; ``CairnError/Code/unsupported`` when a rank would hold more than 131,072 boxes, or the
    ///   shape has more than 255 dimensions.
    package init(_ layout: Layout, shape: Shape) throws(CairnError) {
        guard shape.dimensionCount <= Self.maximumDimensionCount else {
            throw CairnError(
                .unsupported, "the tensor has too many dimensions for a layout",
                .init(expected: "at most \(Self.maximumDimensionCount)", found: "\(shape.dimensionCount)"))
        }
        self.layout = layout
        self.shape = shape
        let axes = layout.mesh.axes
        if let explicit = layout.explicit {
            axisRoles = axes.map { _ in .shards }
            partialCount = 1
            arrangement = .explicit(try ExplicitRegions(explicit, shape: shape))
            return
        }
        var roles = [AxisRole](repeating: .replicates, count: axes.count)
        var cuts = [[DimensionCut]](repeating: [], count: shape.dimensionCount)
        var flat: FlatCut?
        var partials = 1
        for step in layout.steps {
            guard let axis = layout.mesh.index(of: step.axis) else { continue }
            switch step.placement {
            case .replicate: break
            case .present(let coordinates): roles[axis] = .present(coordinates)
            case .partial:
                roles[axis] = .partial
                partials *= axes[axis].size
            case .flatten(let flattening):
                roles[axis] = .shards
                flat = FlatCut(flattening, axis: axis, axisName: step.axis, parts: axes[axis].size)
            case .shard(let sharding):
                roles[axis] = .shards
                guard cuts.indices.contains(sharding.dimension) else {
                    throw Self.noDimension(
                        sharding.dimension, shape, "the layout's axis \"\(step.axis)\" shards a dimension")
                }
                cuts[sharding.dimension].append(
                    DimensionCut(sharding, axis: axis, axisName: step.axis, parts: axes[axis].size))
            }
        }
        axisRoles = roles
        partialCount = partials
        let dimensions = try Self.shard(shape, cuts, padding: layout.padding)
        try Self.checkFragmentCount(dimensions, isFlat: flat != nil)
        if let flat {
            try flat.check(dimensions.reduce(1) { $0 * $1.largestLocalExtent })
        }
        arrangement = .sharded(dimensions: dimensions, flat: flat)
    }

    private static func shard(
        _ shape: Shape, _ cuts: [[DimensionCut]], padding: [Int: Int]
    ) throws(CairnError) -> [ShardedDimension] {
        var padded = shape.extents
        for (dimension, extent) in padding.sorted(by: { $0.key < $1.key }) {
            guard padded.indices.contains(dimension) else {
                throw noDimension(dimension, shape, "the layout pads a dimension")
            }
            guard extent >= padded[dimension] else {
                throw CairnError(
                    .invalidArgument, "the layout pads dimension \(dimension) to less than it has",
                    .init(expected: "at least \(padded[dimension])", found: "\(extent)"))
            }
            padded[dimension] = extent
        }
        do {
            _ = try Shape(checking: padded)
        } catch {
            throw CairnError(
                .invalidArgument, "the padded shape's element count overflows", .init(found: "\(padded)"))
        }
        var dimensions: [ShardedDimension] = []
        for (dimension, extent) in shape.extents.enumerated() {
            do {
                dimensions.append(
                    try ShardedDimension(extent: extent, paddedExtent: padded[dimension], cuts: cuts[dimension]))
            } catch {
                throw CairnError(error.code, "dimension \(dimension) of \(shape): \(error.message)", error.context)
            }
        }
        return dimensions
    }

    private static func checkFragmentCount(_ dimensions: [ShardedDimension], isFlat: Bool) throws(CairnError) {
        var count: Int? = 1
        if isFlat {
            // Each row before the innermost interrupted dimension is a run by itself.
            let broken = dimensions.lastIndex { !$0.isAlwaysOneRun } ?? 0
            for dimension in dimensions.prefix(broken) {
                count = count?.multiplied(checked: dimension.largestLocalExtent)
            }
            if broken < dimensions.count { count = count?.multiplied(checked: dimensions[broken].pieceBound) }
        } else {
            for dimension in dimensions { count = count?.multiplied(checked: dimension.pieceBound) }
        }
        guard let count, count <= maximumFragmentCount else {
            throw CairnError(
                .unsupported, "the layout breaks the tensor into too many boxes",
                .init(
                    expected: "at most \(maximumFragmentCount) for a rank",
                    found: count.map { "\($0)" } ?? "more than can be counted",
                    advice: isFlat
                        ? "flatten tensors whose inner dimensions are neither padded nor split in sections"
                        : "split fewer dimensions in sections"))
        }
    }

    private static func noDimension(_ dimension: Int, _ shape: Shape, _ message: String) -> CairnError {
        CairnError(
            .invalidArgument, message + " that the tensor does not have",
            .init(expected: "below \(shape.dimensionCount), of shape \(shape)", found: "dimension \(dimension)"))
    }
}

extension ShardedShape: CustomStringConvertible {
    /// `[50257, 768] on dp=2,tp=4: tp: shard 0`
    public var description: String { "\(shape) on \(layout.mesh): \(layout)" }
}

extension ShardedShape {
    /// Proves that every element of every partial value is held by some rank, and that whatever overlaps is a replica.
    ///
    /// Steps cover by construction, which ``init(_:shape:)`` checked: each shards whatever extent the earlier ones
    /// left into parts that follow on each other from its beginning to its end, and a flat buffer holds the local
    /// tensor whole. So the parts of a dimension are a partition of it, and the boxes one of the tensor. Explicit
    /// regions are swept: see the errors.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the first hole; ``CairnError/Code/invalidArgument`` when two
    ///   regions overlap and neither contains the other; ``CairnError/Code/unsupported`` when they overlap so much that
    ///   the proof would take too long.
    package func proveCoverage() throws(CairnError) {
        if case .explicit(let regions) = arrangement { _ = try regions.tiles(of: shape) }
    }
}

extension ShardedShape {
    /// The shape of the whole tensor in a checkpoint: that of a partial layout has the partial values as a first dimension.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for more elements than can be counted.
    package func storedShape() throws(CairnError) -> Shape {
        isPartial ? try Shape(checking: [partialCount] + shape.extents) : shape
    }

    /// A rank's part of a whole tensor, padding zero; `nil` where the rank holds none.
    ///
    /// - Parameter whole: The whole tensor; of a partial layout the partial values, stacked along a first dimension.
    /// - Throws: ``CairnError/Code/mismatch`` when `whole` has another shape, ``CairnError/Code/unsupported`` when
    ///   packed elements would begin or end inside a byte.
    public func part(ofRank rank: Int, of whole: Tensor, pool: BufferPool? = nil) throws -> Tensor? {
        let expected = try storedShape()
        guard whole.shape == expected else {
            throw CairnError(
                .mismatch, "a whole tensor has another shape than its layout is for",
                .init(rank: rank, expected: "\(expected)", found: "\(whole.shape)"))
        }
        guard let localShape = localShape(ofRank: rank) else { return nil }
        let fragments = fragments(ofRank: rank)
        let prefix = isPartial ? [partialIndex(ofRank: rank)] : []
        return try Tensor(whole.scalarType, localShape, pool: pool) { bytes in
            let filled = fragments.reduce(0) { $0 + $1.global.elementCount }
            if filled < localShape.elementCount {
                bytes.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
            }
            for fragment in fragments {
                let region = try Region(
                    offsets: prefix + fragment.global.offsets,
                    shape: Shape(checking: prefix.map { _ in 1 } + fragment.global.shape.extents))
                guard
                    let runs = PairedRuns(
                        from: region, of: expected, to: fragment.local, of: localShape)
                else {
                    throw CairnError(.unsupported, "a piece cannot be moved", .init(rank: rank, found: "\(fragment)"))
                }
                try runs.copy(whole.bytes, into: &bytes, bitWidth: whole.scalarType.bitWidth)
            }
        }
    }
}
