import CairnBase
import CairnCheckpoint
import CairnTensor

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
