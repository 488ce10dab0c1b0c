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

/// Where each part of a sharded extent begins, in closed form.
struct PartBoundaries: Sendable, Hashable {
    private enum Rule: Sendable, Hashable {
        case even, chunked, balanced
        /// Of the parts and of the end.
        case starts([Int])
    }

    let parts: Int
    private let rule: Rule
    private let unit: Int

    init(_ division: Division, unit: Int, parts: Int) {
        self.parts = parts
        self.unit = unit
        switch division {
        case .even: rule = .even
        case .chunked: rule = .chunked
        case .balanced: rule = .balanced
        case .sizes(let sizes):
            var starts = [0]
            // A sum that does not fit is not an extent's; it is refused where the extent is known.
            for size in sizes { starts.append((starts[starts.count - 1]).addingReportingOverflow(size).partialValue) }
            rule = .starts(starts)
        }
    }

    /// Where part `index` of `extent` begins; the extent's end for `index == parts`.
    func start(of index: Int, in extent: Int) -> Int {
        switch rule {
        case .starts(let starts): return starts[index]
        case .even: return extent / parts * index
        case .chunked:
            let units = extent.dividedRoundingUp(by: unit)
            return position(ofUnit: units.dividedRoundingUp(by: parts) * index, of: units, in: extent)
        case .balanced:
            let units = extent.dividedRoundingUp(by: unit)
            let (each, larger) = units.quotientAndRemainder(dividingBy: parts)
            return position(ofUnit: each * index + min(index, larger), of: units, in: extent)
        }
    }

    /// What part `index` of `extent` holds.
    func range(of index: Int, in extent: Int) -> Range<Int> {
        start(of: index, in: extent)..<start(of: index + 1, in: extent)
    }

    /// The part that holds `position`, which lies inside `extent`.
    func part(at position: Int, in extent: Int) -> Int {
        (0..<parts).firstPosition { start(of: $0 + 1, in: extent) > position }
    }

    /// Parts among which every size that parts of `extent` have occurs.
    func representatives(in extent: Int) -> [Int] {
        switch rule {
        case .even: return [0]
        case .starts: return Array(0..<parts)
        case .chunked:
            let last = extent == 0 ? 0 : part(at: extent - 1, in: extent)
            return Array(Set([0, last, parts - 1]))
        case .balanced:
            // Only the last part that holds anything can end in a short unit.
            let units = extent.dividedRoundingUp(by: unit)
            let last = extent == 0 ? 0 : part(at: extent - 1, in: extent)
            return Array(Set([0, min(units % parts, parts - 1), last, max(0, last - 1), parts - 1]))
        }
    }

    /// Why `extent` cannot be sharded so, or `nil` when it can.
    func objection(to extent: Int) -> String? {
        switch rule {
        case .chunked, .balanced: return nil
        case .even:
            guard extent % parts == 0, extent / parts % unit == 0 else {
                let units = unit == 1 ? "" : " of whole units of \(unit)"
                return "\(parts) equal parts\(units)"
            }
            return nil
        case .starts(let starts):
            guard zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 }) else { return "sizes that do not overflow" }
            return starts[parts] == extent ? nil : "sizes that sum to \(starts[parts])"
        }
    }

    private func position(ofUnit index: Int, of units: Int, in extent: Int) -> Int {
        index >= units ? extent : index * unit
    }
}
