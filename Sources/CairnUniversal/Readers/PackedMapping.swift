import CairnBase
import CairnTensor

/// A rank's flat buffer out of its members.
struct PackedMapping: RegionMapping {
    let shape: Shape
    /// Where each member's part is; in the order of the inputs, ascending.
    let ranges: [Range<Int>]

    var hasPadding: Bool { true }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        let wanted = region.range(0)
        for (input, range) in ranges.enumerated() where range.overlaps(wanted) {
            let common = range.clamped(to: wanted)
            let shape = try Shape(checking: [common.count])
            pieces.append(
                MappedPiece(
                    input: input, source: try Region(offsets: [common.lowerBound - range.lowerBound], shape: shape),
                    target: try Region(offsets: [common.lowerBound], shape: shape)))
        }
        return pieces
    }
}
