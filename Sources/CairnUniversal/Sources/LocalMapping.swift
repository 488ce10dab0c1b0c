import CairnBase
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
                let source = try Region(
                    offsets: zip(inside.offsets, fragment.global.offsets).map { $0 + $1 }, shape: target.shape)
                pieces.append(MappedPiece(input: 0, source: source, target: target))
                continue
            }
            let begin = inside.offsets[0]
            for (range, box) in RunBoxes.boxes(of: begin..<begin + target.elementCount, in: fragment.global.shape) {
                pieces.append(
                    MappedPiece(
                        input: 0,
                        source: try Region(
                            offsets: zip(box.offsets, fragment.global.offsets).map { $0 + $1 }, shape: box.shape),
                        target: try Region(
                            offsets: [fragment.local.offsets[0] + range.lowerBound],
                            shape: Shape(checking: [range.count]))))
            }
        }
        return pieces
    }
}

/// Boxes that make up a run of a row-major tensor: a head, whole rows, a tail, and so again inside head and tail.
enum RunBoxes {
    /// - Returns: The part of the run and its box, in order.
    static func boxes(of run: Range<Int>, in shape: Shape) -> [(range: Range<Int>, box: Region)] {
        var result: [(range: Range<Int>, box: Region)] = []
        func split(_ run: Range<Int>, from dimension: Int, _ outer: [Int], base: Int) {
            guard !run.isEmpty else { return }
            guard dimension < shape.dimensionCount else {
                append(outer, [Int](repeating: 1, count: outer.count), base + run.lowerBound..<base + run.upperBound)
                return
            }
            let size = shape.extents[(dimension + 1)...].reduce(1, *)
            let firstWhole = run.lowerBound.dividedRoundingUp(by: size), endWhole = run.upperBound / size
            func descend(_ part: Range<Int>) {
                guard !part.isEmpty else { return }
                let row = part.lowerBound / size
                split(
                    part.lowerBound - row * size..<part.upperBound - row * size, from: dimension + 1, outer + [row],
                    base: base + row * size)
            }
            guard firstWhole <= endWhole else { return descend(run) }
            descend(run.lowerBound..<firstWhole * size)
            if firstWhole < endWhole {
                let rest = shape.extents[(dimension + 1)...]
                append(
                    outer + [firstWhole] + rest.map { _ in 0 },
                    outer.map { _ in 1 } + [endWhole - firstWhole] + rest,
                    base + firstWhole * size..<base + endWhole * size)
            }
            descend(max(endWhole, firstWhole) * size..<run.upperBound)
        }
        func append(_ offsets: [Int], _ extents: [Int], _ range: Range<Int>) {
            guard let shape = try? Shape(checking: extents), let box = try? Region(offsets: offsets, shape: shape)
            else { return }
            result.append((range, box))
        }
        split(run, from: 0, [], base: 0)
        return result
    }
}
