package import CairnBase
package import CairnTensor

/// Where each element of a tensor comes from, in boxes.
package protocol RegionMapping: Sendable {
    /// The shape of the result.
    var shape: Shape { get }
    /// Whether some elements come from nowhere and are zero.
    var hasPadding: Bool { get }
    /// The boxes that make up a region: disjoint, and all of it but for padding.
    func pieces(of region: Region) throws(CairnError) -> [MappedPiece]
}

extension RegionMapping {
    package var hasPadding: Bool { false }
}

/// A box of the result and where its elements are: as many, in the same row-major order.
package struct MappedPiece: Sendable, Hashable {
    /// Which of the inputs.
    package var input: Int
    /// The box there.
    package var source: Region
    /// The box in the result.
    package var target: Region

    package init(input: Int, source: Region, target: Region) {
        self.input = input
        self.source = source
        self.target = target
    }
}

extension Region {
    /// The box with another stretch along one dimension.
    package func replacing(_ dimension: Int, offset: Int, extent: Int) throws(CairnError) -> Region {
        var offsets = self.offsets
        var extents = shape.extents
        offsets[dimension] = offset
        extents[dimension] = extent
        return try Region(offsets: offsets, shape: Shape(checking: extents))
    }

    /// The box without a dimension.
    package func removing(_ dimension: Int) throws(CairnError) -> Region {
        var offsets = self.offsets
        var extents = shape.extents
        offsets.remove(at: dimension)
        extents.remove(at: dimension)
        return try Region(offsets: offsets, shape: Shape(checking: extents))
    }

    /// The box with a dimension of one element more.
    package func inserting(_ dimension: Int, offset: Int) throws(CairnError) -> Region {
        var offsets = self.offsets
        var extents = shape.extents
        offsets.insert(offset, at: dimension)
        extents.insert(1, at: dimension)
        return try Region(offsets: offsets, shape: Shape(checking: extents))
    }

    /// The stretch along a dimension.
    package func range(_ dimension: Int) -> Range<Int> { offsets[dimension]..<offsets[dimension] + shape[dimension] }
}

extension Shape {
    /// The shape with another extent.
    package func replacing(_ dimension: Int, with extent: Int) throws(CairnError) -> Shape {
        var extents = self.extents
        extents[dimension] = extent
        return try Shape(checking: extents)
    }
}
