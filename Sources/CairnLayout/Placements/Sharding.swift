/// How a dimension is split over a mesh axis.
///
/// The extent that the earlier steps left to a rank is laid out as `sections`, side by side, the whole pattern
/// `repeats` times. Every section is sharded on its own, and a rank's part is its part of each, in order. So a fused
/// query-key-value weight is split by heads within each of the three, and a grouped one within each group.
public struct Sharding: Sendable, Hashable {
    /// A stretch of the dimension that is sharded on its own.
    public struct Section: Sendable, Hashable {
        /// Elements along the dimension; `nil` for all there are (divided by `repeats`), in the only section.
        public let size: Int?
        /// How it is sharded.
        public let division: Division
        /// Elements that stay together.
        public let unit: Int

        public init(size: Int?, division: Division = .even, unit: Int = 1) {
            self.size = size
            self.division = division
            self.unit = unit
        }
    }

    /// The dimension, 0 the outermost.
    public let dimension: Int
    /// The pattern of sections. Their sizes times `repeats` make up the extent that the earlier steps left.
    public let sections: [Section]
    /// How often the pattern repeats.
    public let repeats: Int

    public init(dimension: Int, sections: [Section] = [Section(size: nil)], repeats: Int = 1) {
        self.dimension = dimension
        self.sections = sections
        self.repeats = repeats
    }
}

/// How an extent is shared out to the coordinates of an axis, in order.
///
/// With a unit `u` an extent `n` is `ceil(n / u)` units, of which the last may be short; only whole units are dealt.
public enum Division: Sendable, Hashable {
    /// Equal parts of whole units; anything else is refused.
    case even
    /// `ceil(units / parts)` units each until none is left, as `torch.chunk` and DTensor do: 7 over 3 is 3, 3, 1.
    case chunked
    /// Parts that differ by at most one unit, the larger ones first: 7 over 3 is 3, 2, 2.
    case balanced
    /// The size of each part, in elements; they sum to the extent.
    case sizes([Int])
}
