import CairnBase
import CairnCheckpoint
import CairnTensor

/// Parts that lie side by side along a dimension, the pattern several times.
struct PartsGeometry: Sendable, Hashable {
    let dimension: Int
    /// The extent of each part in one group.
    let sizes: [Int]
    let groups: Int
    /// Where each part begins in a group.
    let starts: [Int]
    /// The extent of a group.
    let period: Int
    /// The extent of all.
    let extent: Int

    init(dimension: Int, sizes: [Int], groups: Int) throws(CairnError) {
        var starts: [Int] = []
        var period = 0
        for size in sizes {
            starts.append(period)
            guard size >= 0, let next = period.adding(checked: size) else { throw Self.tooLarge }
            period = next
        }
        guard let extent = period.multiplied(checked: groups) else { throw Self.tooLarge }
        self.dimension = dimension
        self.sizes = sizes
        self.groups = groups
        self.starts = starts
        self.period = period
        self.extent = extent
    }

    private static var tooLarge: CairnError {
        CairnError(.invalidArgument, "the sizes of parts overflow or are negative")
    }
}

/// One part of a fused tensor.
struct PartMapping: RegionMapping {
    let geometry: PartsGeometry
    let part: Int
    let shape: Shape

    init(_ geometry: PartsGeometry, part: Int, ofFused fused: Shape) throws(CairnError) {
        self.geometry = geometry
        self.part = part
        shape = try fused.replacing(geometry.dimension, with: geometry.sizes[part] * geometry.groups)
    }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        let size = geometry.sizes[part]
        let range = region.range(geometry.dimension)
        guard size > 0, !range.isEmpty else { return [] }
        var pieces: [MappedPiece] = []
        for group in range.lowerBound / size...(range.upperBound - 1) / size {
            let rows = range.clamped(to: group * size..<(group + 1) * size)
            let begin = group * geometry.period + geometry.starts[part] + rows.lowerBound - group * size
            pieces.append(
                MappedPiece(
                    input: 0,
                    source: try region.replacing(geometry.dimension, offset: begin, extent: rows.count),
                    target: try region.replacing(geometry.dimension, offset: rows.lowerBound, extent: rows.count)))
        }
        return pieces
    }
}

/// A tensor fused from parts.
struct FusedMapping: RegionMapping {
    let geometry: PartsGeometry
    let shape: Shape

    init(_ geometry: PartsGeometry, part: Shape) throws(CairnError) {
        self.geometry = geometry
        shape = try part.replacing(geometry.dimension, with: geometry.extent)
    }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        let range = region.range(geometry.dimension)
        guard geometry.period > 0, !range.isEmpty else { return [] }
        var pieces: [MappedPiece] = []
        for group in range.lowerBound / geometry.period...(range.upperBound - 1) / geometry.period {
            for (part, size) in geometry.sizes.enumerated() {
                let begin = group * geometry.period + geometry.starts[part]
                let rows = range.clamped(to: begin..<begin + size)
                if rows.isEmpty { continue }
                pieces.append(
                    MappedPiece(
                        input: part,
                        source: try region.replacing(
                            geometry.dimension, offset: group * size + rows.lowerBound - begin, extent: rows.count),
                        target: try region.replacing(geometry.dimension, offset: rows.lowerBound, extent: rows.count)))
            }
        }
        return pieces
    }
}

/// Tensors of one shape, one behind the other along a new axis.
struct StackMapping: RegionMapping {
    let axis: Int
    let shape: Shape

    init(axis: Int, count: Int, element: Shape) throws(CairnError) {
        self.axis = axis
        var extents = element.extents
        extents.insert(count, at: axis)
        shape = try Shape(checking: extents)
    }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        let source = try region.removing(axis)
        for slot in region.range(axis) {
            pieces.append(
                MappedPiece(
                    input: slot, source: source, target: try region.replacing(axis, offset: slot, extent: 1)))
        }
        return pieces
    }
}

/// One slice of a stacked tensor.
struct SlotMapping: RegionMapping {
    let axis: Int
    let slot: Int
    let shape: Shape

    init(axis: Int, slot: Int, ofStacked stacked: Shape) throws(CairnError) {
        self.axis = axis
        self.slot = slot
        var extents = stacked.extents
        extents.remove(at: axis)
        shape = try Shape(checking: extents)
    }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        [MappedPiece(input: 0, source: try region.inserting(axis, offset: slot), target: region)]
    }
}
