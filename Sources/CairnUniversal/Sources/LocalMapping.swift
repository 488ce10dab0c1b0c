import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// A rank's local tensor out of the whole one.
struct LocalMapping: RegionMapping {
    let shape: Shape
    let fragments: [LocalFragment]
    let hasPadding: Bool

    /// - Returns: `nil` where the rank does not hold the tensor.
    init?(_ sharded: ShardedShape, rank: Int) {
        guard let shape = sharded.localShape(ofRank: rank) else { return nil }
        self.shape = shape
        fragments = sharded.fragments(ofRank: rank)
        hasPadding = fragments.reduce(0) { $0 + $1.local.elementCount } < shape.elementCount
    }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        for fragment in fragments {
            guard let target = fragment.local.intersection(region) else { continue }
            let inside = target.relative(to: fragment.local.offsets)
            if fragment.local.shape == fragment.global.shape {
                let source = try inside.shifted(by: fragment.global.offsets)
                pieces.append(MappedPiece(input: 0, source: source, target: target))
                continue
            }
            let begin = inside.offsets[0]
            for (range, box) in RunBoxes.boxes(of: begin..<begin + target.elementCount, in: fragment.global.shape) {
                pieces.append(
                    MappedPiece(
                        input: 0,
                        source: try box.shifted(by: fragment.global.offsets),
                        target: try Region(
                            offsets: [fragment.local.offsets[0] + range.lowerBound],
                            shape: Shape(checking: [range.count]))))
            }
        }
        return pieces
    }
}
