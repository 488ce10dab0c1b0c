public import CairnBase

/// How a dimension is split over a mesh axis.
///
/// The extent that the earlier steps left to a rank is laid out as `sections`, side by side, the whole pattern
/// `repeats` times. Every section is sharded on its own, and a rank's part is its part of each, in order. So a fused
/// query-key-value weight is split by heads within each of the three, and a grouped one within each group.
public struct Sharding: Sendable, Hashable {
    /// A stretch of the dimension that is sharded on its own.
    public struct Section: Sendable, Hashable {
        /// Elements along the dimension; `nil` for all there are (divided by `repeats`), in the only section.
        package let size: Int?
        /// How it is sharded.
        package let division: Division
        /// Elements that stay together.
        package let unit: Int

        public init(size: Int?, division: Division = .even, unit: Int = 1) {
            self.size = size
            self.division = division
            self.unit = unit
        }
    }

    /// The dimension, 0 the outermost.
    package let dimension: Int
    /// The pattern of sections. Their sizes times `repeats` make up the extent that the earlier steps left.
    package let sections: [Section]
    /// How often the pattern repeats.
    package let repeats: Int

    package init(dimension: Int, sections: [Section] = [Section(size: nil)], repeats: Int = 1) {
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

/// How the row-major run of a rank's local tensor is cut over a mesh axis.
///
/// The local tensor is what the earlier steps left to the rank, padding included. Each coordinate holds one stretch of
/// the run, a one-dimensional tensor.
public struct Flattening: Sendable, Hashable {
    /// Where the cuts are.
    package enum Partition: Sendable, Hashable {
        /// Each tensor by itself: `ceil(count / n)` elements a coordinate until none is left (ZeRO-3).
        case perTensor
        /// Coordinate `c` holds `[c * size, (c + 1) * size)` of a flat buffer in which the tensor begins at `start`.
        case equal(Int)
        /// Coordinate `c` holds `[cuts[c], cuts[c + 1])` of that buffer: one boundary more than there are coordinates,
        /// ascending.
        case cuts([Int])
    }

    /// Where the tensor begins in the flat buffer, in elements; 0 with ``Partition/perTensor``.
    package let start: Int
    /// Where the cuts are.
    package let partition: Partition

    package init(start: Int = 0, partition: Partition) {
        self.start = start
        self.partition = partition
    }

    /// Each tensor by itself, as ZeRO-3 does.
    public static let perTensor = Flattening(partition: .perTensor)

    /// One flat buffer over many tensors, cut into equal parts regardless of where tensors end (ZeRO-1 and -2, FSDP1).
    ///
    /// - Parameters:
    ///   - counts: The local element counts of the tensors, in the order of the buffer.
    ///   - parts: The size of the axis.
    ///   - alignment: Every tensor begins at a multiple of it.
    ///   - multiple: The buffer is padded at its end to a multiple of it, and of `parts`.
    /// - Returns: A flattening for each tensor.
    /// - Throws: ``CairnError/Code/invalidArgument`` on negative counts, on other numbers below 1, and on overflow.
    public static func group(
        counts: [Int], parts: Int, alignment: Int = 1, paddedToMultipleOf multiple: Int = 1
    ) throws(CairnError) -> [Flattening] {
        guard parts >= 1, alignment >= 1, multiple >= 1, counts.allSatisfy({ $0 >= 0 }) else {
            throw CairnError(
                .invalidArgument, "a flat group needs parts, alignment and padding of at least 1 and no negative count",
                .init(found: "parts \(parts), alignment \(alignment), multiple of \(multiple)"))
        }
        var starts: [Int] = []
        var end = 0
        for count in counts {
            guard let start = end.roundedUp(toMultipleOf: alignment), let next = start.adding(checked: count) else {
                throw Self.tooLarge
            }
            starts.append(start)
            end = next
        }
        guard let padded = end.roundedUp(toMultipleOf: multiple),
            let common = leastCommonMultiple(multiple, parts),
            let total = padded.roundedUp(toMultipleOf: common)
        else { throw Self.tooLarge }
        return starts.map { Flattening(start: $0, partition: .equal(total / parts)) }
    }

    private static var tooLarge: CairnError {
        CairnError(.invalidArgument, "the element count of a flat group overflows")
    }

    private static func leastCommonMultiple(_ one: Int, _ other: Int) -> Int? {
        var (large, small) = (one, other)
        while small != 0 { (large, small) = (small, large % small) }
        return (one / large).multiplied(checked: other)
    }
}
