public import CairnLayout

/// What one mesh axis does to a tensor, as a rule writes it: ``Placement`` with expressions for numbers.
public enum PlacementRule: Sendable, Hashable {
    /// How a dimension is shared out.
    public enum Division: Sendable, Hashable {
        case even
        case chunked
        case balanced
        case sizes([IntegerExpression])
    }

    /// The stretches of a dimension that are sharded each on its own.
    public enum Sections: Sendable, Hashable {
        /// The dimension whole.
        case whole
        /// So many of one size.
        case equal(IntegerExpression)
        /// Of these sizes.
        case sizes([IntegerExpression])
    }

    /// How the row-major run of a tensor is cut.
    public enum Flattening: Sendable, Hashable {
        /// Each tensor by itself: `ceil(count / n)` elements a coordinate (ZeRO-3).
        case perTensor
        /// As the ``FlatBuffer`` that holds the tensor is cut.
        case buffer
        /// Coordinate c holds `[c * size, (c + 1) * size)` of a buffer in which the tensor begins at `start`.
        case equal(start: IntegerExpression, size: IntegerExpression)
        /// Coordinate c holds `[cuts[c], cuts[c + 1])` of that buffer.
        case cuts(start: IntegerExpression, [IntegerExpression])
    }

    /// Every coordinate holds the same.
    case replicate
    /// The coordinates split a dimension.
    ///
    /// - Parameters:
    ///   - unit: How many elements stay together.
    ///   - sections: What is sharded on its own.
    ///   - repeats: How often the sections repeat along the dimension.
    case shard(
        dimension: Int, division: Division = .even, unit: IntegerExpression = 1, sections: Sections = .whole,
        repeats: IntegerExpression = 1)
    /// The coordinates cut the row-major run of what the earlier steps left.
    case flatten(Flattening)
    /// Only these coordinates hold the tensor.
    case present(on: [IntegerExpression])
    /// Every coordinate holds a partial value: their sum or mean is the tensor. One-way.
    case partial(Reduction)

    /// The coordinates split a dimension.
    public static func shard(
        _ dimension: Int, _ division: Division = .even, unit: IntegerExpression = 1
    ) -> PlacementRule {
        .shard(dimension: dimension, division: division, unit: unit)
    }
}

/// A whole number of a rule, written as arithmetic: `heads / groups * head_dim`, `n + pp * layers / pp.size`.
///
/// Numbers, the specification's parameters, the size of a mesh axis (`tp.size`), this rank's coordinate on it (`tp`),
/// captures of the name, `+ - * /`, parentheses, `roundup(x, m)` (the next multiple of m). Division must come out even:
/// a division with a remainder is an error. Products are taken left to right.
public struct IntegerExpression: Sendable, Hashable {
    /// As it was written.
    package let text: String

    /// An expression; it is read when its specification is.
    public init(_ text: String) { self.text = text }
}

extension IntegerExpression: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
    public init(integerLiteral value: Int) { text = String(value) }
    public init(stringLiteral value: String) { text = value }
}

extension IntegerExpression: CustomStringConvertible {
    public var description: String { text }
}
