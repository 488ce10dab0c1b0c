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
