import CairnBase

/// One dimension and the steps that shard it.
struct ShardedDimension: Sendable {
    /// The coordinates that shard the dimension, one for each cut, and what they hold.
    struct Hit {
        var coordinates: [Int]
        var part: DimensionPart
    }

    /// Extents that a layout may leave to different ranks before it counts as hostile.
    private static let workLimit = 1 << 24

    /// Without padding.
    let extent: Int
    let paddedExtent: Int
    let cuts: [DimensionCut]
    /// The largest local extent.
    let largestLocalExtent: Int
    /// No rank holds more pieces.
    let pieceBound: Int

    /// Checks that every step can shard whatever the earlier ones leave.
    init(extent: Int, paddedExtent: Int, cuts: [DimensionCut]) throws(CairnError) {
        self.extent = extent
        self.paddedExtent = paddedExtent
        self.cuts = cuts
        var extents: Set<Int> = [paddedExtent]
        var work = Self.workLimit
        var pieces = 1
        for cut in cuts {
            var next: Set<Int> = []
            for extent in extents.sorted() { try cut.check(extent, into: &next, work: &work) }
            extents = next
            pieces = pieces.adding(checked: cut.addedPieces) ?? .max
        }
        largestLocalExtent = extents.max() ?? 0
        pieceBound = min(pieces, max(1, largestLocalExtent))
    }

    /// Whether every part is one stretch without padding.
    var isAlwaysOneRun: Bool { pieceBound == 1 && paddedExtent == extent }

    /// What the rank at these mesh coordinates holds.
    func part(at meshCoordinates: [Int]) -> DimensionPart {
        part { meshCoordinates[$0.axis] }
    }

    private func part(_ coordinate: (DimensionCut) -> Int) -> DimensionPart {
        var pieces = [0..<paddedExtent]
        var extent = paddedExtent
        for cut in cuts {
            let part = coordinate(cut)
            pieces = Self.take(cut.ranges(of: part, in: extent), of: pieces)
            extent = cut.localExtent(of: part, in: extent)
        }
        return DimensionPart(pieces, extent: self.extent)
    }

    /// The stretches that `ranges`, positions along the concatenated `pieces`, select.
    private static func take(_ ranges: [Range<Int>], of pieces: [Range<Int>]) -> [Range<Int>] {
        var taken: [Range<Int>] = []
        var piece = 0
        var start = 0  // of the piece, in the concatenation
        for range in ranges where !range.isEmpty {
            while piece < pieces.count, start + pieces[piece].count <= range.lowerBound {
                start += pieces[piece].count
                piece += 1
            }
            var index = piece
            var origin = start
            while index < pieces.count, origin < range.upperBound {
                let common = range.clamped(to: origin..<origin + pieces[index].count)
                let shift = pieces[index].lowerBound - origin
                let selected = common.lowerBound + shift..<common.upperBound + shift
                if let last = taken.last, last.upperBound == selected.lowerBound {
                    taken[taken.count - 1] = last.lowerBound..<selected.upperBound
                } else if !selected.isEmpty {
                    taken.append(selected)
                }
                origin += pieces[index].count
                index += 1
            }
        }
        return taken
    }

    /// The combinations of coordinates whose part has elements in `query`, found by arithmetic and not by trying all.
    func hits(_ query: Range<Int>) -> [Hit] {
        var hits: [Hit] = []
        var coordinates: [Int] = []
        collect([query], in: paddedExtent, &coordinates, into: &hits)
        return hits
    }

    private func collect(
        _ queries: [Range<Int>], in extent: Int, _ coordinates: inout [Int], into hits: inout [Hit]
    ) {
        let level = coordinates.count
        guard level < cuts.count else {
            var index = 0
            let part = part { _ in
                defer { index += 1 }
                return coordinates[index]
            }
            hits.append(Hit(coordinates: coordinates, part: part))
            return
        }
        for hit in cuts[level].hits(queries, in: extent) {
            coordinates.append(hit.part)
            collect(hit.ranges, in: cuts[level].localExtent(of: hit.part, in: extent), &coordinates, into: &hits)
            coordinates.removeLast()
        }
    }
}
