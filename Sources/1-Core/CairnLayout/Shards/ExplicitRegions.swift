import CairnBase
import CairnTensor

/// The distinct regions of an explicit layout, sorted along one dimension so that those that meet a region are found
/// without looking at all.
struct ExplicitRegions: Sendable {
    /// A region and the ranks that hold it, ascending.
    struct HeldRegion: Sendable {
        var region: Region
        var ranks: [Int]
    }

    /// By their start along the index's dimension, then by offsets and extents.
    let entries: [HeldRegion]
    private let index: RegionIndex

    init(_ explicit: [[Region]], shape: Shape) throws(CairnError) {
        var ranks: [Region: [Int]] = [:]
        for (rank, regions) in explicit.enumerated() {
            var total = 0
            for region in regions {
                guard region.isInside(shape) else {
                    throw CairnError(
                        .invalidArgument, "an explicit region lies outside of the tensor",
                        .init(rank: rank, expected: "inside \(shape)", found: "\(region)"))
                }
                guard let sum = total.adding(checked: region.elementCount) else {
                    throw CairnError(
                        .invalidArgument, "a rank's explicit regions have too many elements", .init(rank: rank))
                }
                total = sum
                guard region.elementCount > 0 else { continue }
                guard ranks[region]?.last != rank else {
                    throw CairnError(
                        .invalidArgument, "a rank's explicit region repeats",
                        .init(rank: rank, found: "\(region) twice", advice: "list each region of a rank once"))
                }
                ranks[region, default: []].append(rank)
            }
        }
        let regions = ranks.keys.sorted { Self.precedes($0, $1, along: nil) }
        index = RegionIndex(regions)
        entries = index.order.map { HeldRegion(region: regions[$0], ranks: ranks[regions[$0]] ?? []) }
    }

    private static func precedes(_ one: Region, _ other: Region, along dimension: Int?) -> Bool {
        if let dimension, one.offsets[dimension] != other.offsets[dimension] {
            return one.offsets[dimension] < other.offsets[dimension]
        }
        if one.offsets != other.offsets { return one.offsets.lexicographicallyPrecedes(other.offsets) }
        return one.shape.extents.lexicographicallyPrecedes(other.shape.extents)
    }

    /// The entries that share an element with `query`, ascending.
    func indices(meeting query: Region) -> [Int] {
        candidates(meeting: query).filter { entries[$0].region.overlaps(query) }
    }

    /// The entry of exactly this region.
    func index(of region: Region) -> Int? {
        let index = entries.firstPosition { !Self.precedes($0.region, region, along: self.index.dimension) }
        return index < entries.count && entries[index].region == region ? index : nil
    }

    /// The entries that may meet `query`, judged by one dimension.
    func candidates(meeting query: Region) -> Range<Int> { index.candidates(meeting: query) }

    /// A rank's local tensor: its region, or its regions one behind the other; `nil` without any.
    static func localShape(of regions: [Region]) -> Shape? {
        guard let first = regions.first else { return nil }
        return regions.count == 1 ? first.shape : [regions.reduce(0) { $0 + $1.elementCount }]
    }

    /// A rank's fragments in the order of its local tensor.
    static func fragments(of regions: [Region]) -> [LocalFragment] {
        guard regions.count > 1 else {
            return regions.filter { $0.elementCount > 0 }
                .map { LocalFragment(global: $0, local: Region(whole: $0.shape)) }
        }
        var fragments: [LocalFragment] = []
        var position = 0
        for region in regions where region.elementCount > 0 {
            let local = Region(trustedOffsets: [position], shape: [region.elementCount])
            fragments.append(LocalFragment(global: region, local: local))
            position += region.elementCount
        }
        return fragments
    }
}

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
