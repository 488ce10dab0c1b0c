import CairnBase
import CairnTensor

/// Proof that explicit regions make up the tensor.
extension ExplicitRegions {
    /// Comparisons of boxes before a layout counts as too irregular to be judged.
    private static let workLimit = 1 << 26

    /// The entries that no other contains, after checking that they cover every element exactly once.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the first hole; ``CairnError/Code/invalidArgument`` when two
    ///   regions overlap and neither contains the other; ``CairnError/Code/unsupported`` when there are so many
    ///   overlaps that the proof would take too long.
    func tiles(of shape: Shape) throws(CairnError) -> [Int] {
        var work = Self.workLimit
        var isTile = [Bool](repeating: true, count: entries.count)
        for index in entries.indices {
            let region = entries[index].region
            let candidates = candidates(meeting: region)
            try spend(candidates.count, of: &work)
            for other in candidates where other != index {
                guard let common = entries[other].region.intersection(region) else { continue }
                if common == region {
                    isTile[index] = false
                } else if common != entries[other].region {
                    throw overlap(entries[other], entries[index])
                }
            }
        }
        let tiles = entries.indices.filter { isTile[$0] }
        if shape.elementCount > 0 {
            let boxes = tiles.map { entries[$0].region }
            if let hole = try firstHole(in: boxes, shape, from: 0, work: &work) {
                throw CairnError(
                    .incomplete, "no rank holds part of the tensor",
                    .init(
                        expected: "every element of \(shape)", found: "a hole that begins at \(hole)",
                        advice: "place the missing elements on a rank"))
            }
        }
        return tiles
    }

    private func overlap(_ one: HeldRegion, _ other: HeldRegion) -> CairnError {
        CairnError(
            .invalidArgument, "two explicit regions overlap in part",
            .init(
                expected: "regions that are apart, equal, or one inside the other",
                found: "\(one.region) of rank \(one.ranks[0]) and \(other.region) of rank \(other.ranks[0])",
                advice: "cut the regions so that replicas are equal"))
    }

    /// The first element, row-major, of the dimensions from `dimension` on that no box has.
    private func firstHole(
        in boxes: [Region], _ shape: Shape, from dimension: Int, work: inout Int
    ) throws(CairnError) -> [Int]? {
        guard dimension < shape.dimensionCount else { return boxes.isEmpty ? [] : nil }
        let rest = [Int](repeating: 0, count: shape.dimensionCount - dimension - 1)
        if boxes.isEmpty { return [0] + rest }
        try spend(boxes.count, of: &work)
        let starts = boxes.sorted { $0.offsets[dimension] < $1.offsets[dimension] }
        var borders = Set([0, shape[dimension]])
        for box in boxes {
            borders.insert(box.range(dimension).lowerBound)
            borders.insert(box.range(dimension).upperBound)
        }
        var next = 0
        var active: [Region] = []
        for border in borders.sorted() where border < shape[dimension] {
            try spend(active.count + 1, of: &work)
            active.removeAll { $0.range(dimension).upperBound <= border }
            while next < starts.count, starts[next].offsets[dimension] <= border {
                active.append(starts[next])
                next += 1
            }
            if let hole = try firstHole(in: active, shape, from: dimension + 1, work: &work) {
                return [border] + hole
            }
        }
        return nil
    }

    private func spend(_ effort: Int, of work: inout Int) throws(CairnError) {
        work -= effort
        guard work > 0 else {
            throw CairnError(
                .unsupported, "the explicit regions are too irregular to prove that they cover the tensor",
                .init(found: "\(entries.count) distinct regions", advice: "use fewer and larger regions"))
        }
    }
}
