import CairnBase
import CairnTensor

/// The distinct regions of a hand-placed layout, sorted along one dimension so that those that meet a region are found
/// without looking at all.
struct PlacedRegions: Sendable {
    /// A region and the ranks that hold it, ascending.
    struct Entry: Sendable {
        var region: Region
        var ranks: [Int]
    }

    /// By their start along `dimension`, then by offsets and extents.
    let entries: [Entry]
    /// The dimension in which the regions start at most different places; `nil` for scalars.
    let dimension: Int?
    /// For each entry the furthest end, along `dimension`, of it and the ones before.
    private let furthestEnds: [Int]

    init(_ explicit: [[Region]], shape: Shape) throws(CairnError) {
        var ranks: [Region: [Int]] = [:]
        for (rank, regions) in explicit.enumerated() {
            var total = 0
            for region in regions {
                guard region.isInside(shape) else {
                    throw CairnError(
                        .invalidArgument, "a hand-placed region lies outside of the tensor",
                        .init(rank: rank, expected: "inside \(shape)", found: "\(region)"))
                }
                guard let sum = total.adding(checked: region.elementCount) else {
                    throw CairnError(
                        .invalidArgument, "a rank's hand-placed regions have too many elements", .init(rank: rank))
                }
                total = sum
                guard region.elementCount > 0 else { continue }
                guard ranks[region]?.last != rank else {
                    throw CairnError(
                        .invalidArgument, "a rank's hand-placed region repeats",
                        .init(rank: rank, found: "\(region) twice", advice: "list each region of a rank once"))
                }
                ranks[region, default: []].append(rank)
            }
        }
        let regions = Array(ranks.keys)
        let dimension = shape.extents.indices
            .map { dimension in (dimension, Set(regions.map { $0.offsets[dimension] }).count) }
            .max { ($0.1, -$0.0) < ($1.1, -$1.0) }?.0
        entries = regions.sorted { Self.precedes($0, $1, along: dimension) }
            .map { Entry(region: $0, ranks: ranks[$0] ?? []) }
        self.dimension = dimension
        var furthest = 0
        furthestEnds = entries.map { entry in
            if let dimension { furthest = max(furthest, entry.region.range(dimension).upperBound) }
            return furthest
        }
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
        candidates(meeting: query).filter { entries[$0].region.intersection(query) != nil }
    }

    /// The entry of exactly this region.
    func index(of region: Region) -> Int? {
        let index = entries.firstPosition { !Self.precedes($0.region, region, along: dimension) }
        return index < entries.count && entries[index].region == region ? index : nil
    }

    /// The entries that may meet `query`, judged by one dimension.
    func candidates(meeting query: Region) -> Range<Int> {
        guard let dimension else { return entries.indices }
        let range = query.range(dimension)
        let begin = furthestEnds.firstPosition { $0 > range.lowerBound }
        let end = entries.firstPosition { $0.region.offsets[dimension] >= range.upperBound }
        return begin..<max(begin, end)
    }

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
