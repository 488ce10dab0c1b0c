import CairnBase

/// Boxes of one tensor, arranged so that those that meet a region are found without looking at all.
package struct RegionIndex: Sendable {
    private let regions: [Region]
    /// The dimension in which the boxes start at most different places; `nil` for scalars.
    package let dimension: Int?
    /// The positions of the boxes by their start along `dimension`.
    package let order: [Int]
    /// For each of `order` the furthest end, along `dimension`, of it and the ones before.
    private let furthestEnds: [Int]

    /// - Parameter regions: Boxes with as many dimensions as each other.
    package init(_ regions: [Region]) {
        self.regions = regions
        let dimension = (regions.first?.offsets.indices ?? 0..<0)
            .map { dimension in (dimension, Set(regions.map { $0.offsets[dimension] }).count) }
            .max { ($0.1, -$0.0) < ($1.1, -$1.0) }?.0
        self.dimension = dimension
        guard let dimension else {
            order = Array(regions.indices)
            furthestEnds = []
            return
        }
        order = regions.indices.sorted {
            (regions[$0].offsets[dimension], $0) < (regions[$1].offsets[dimension], $1)
        }
        var furthest = 0
        furthestEnds = order.map { position in
            furthest = max(furthest, regions[position].offsets[dimension] + regions[position].shape[dimension])
            return furthest
        }
    }

    /// The positions, ascending, of the boxes that share an element with a region.
    package func positions(meeting query: Region) -> [Int] {
        order[candidates(meeting: query)].filter { regions[$0].overlaps(query) }.sorted()
    }

    /// Which of ``order`` may meet a region, judged by one dimension.
    package func candidates(meeting query: Region) -> Range<Int> {
        guard let dimension, dimension < query.offsets.count else { return order.indices }
        let begin = query.offsets[dimension], end = begin + query.shape[dimension]
        let first = furthestEnds.firstPosition { $0 > begin }
        let last = order.firstPosition { regions[$0].offsets[dimension] >= end }
        return first..<max(first, last)
    }
}
