public import CairnTensor

/// What becomes of tensors on the way from foreign to logical, after their shards are gathered.
///
/// A rule's transforms are applied in order; the way back applies their inverses in reverse.
public enum RuleTransform: Sendable, Hashable {
    /// Parts that lie side by side along a dimension, the pattern `groups` times.
    public struct Parts: Sendable, Hashable {
        /// The dimension, 0 the outermost.
        package var dimension: Int
        /// The extent of each part in one group; `nil` where it follows: equal parts when splitting, whatever the parts
        /// have when fusing.
        package var sizes: [IntegerExpression]?
        /// How often the pattern repeats: 1 for parts one behind the other, the number of head groups for a
        /// query-key-value weight that is interleaved by group.
        package var groups: IntegerExpression

        package init(dimension: Int, sizes: [IntegerExpression]? = nil, groups: IntegerExpression = 1) {
            self.dimension = dimension
            self.sizes = sizes
            self.groups = groups
        }
    }

    /// A dimension that is longer where it is stored.
    public struct Padding: Sendable, Hashable {
        package var dimension: Int
        /// The extent without padding.
        package var extent: IntegerExpression
        /// The extent with padding is the next multiple of it; `nil` takes what is there, one-way.
        package var multiple: IntegerExpression?

        package init(dimension: Int, extent: IntegerExpression, multiple: IntegerExpression? = nil) {
            self.dimension = dimension
            self.extent = extent
            self.multiple = multiple
        }
    }

    /// One tensor that becomes several equal ones, or its parts that do.
    public struct Copies: Sendable, Hashable {
        /// The capture of the logical name that numbers them.
        package var slot: String
        /// How many there are.
        package var count: IntegerExpression
        /// Into how many equal parts the tensor is cut first: copy `i` is of part `i mod parts`.
        package var parts: IntegerExpression
        /// The dimension along which it is cut.
        package var dimension: Int

        package init(slot: String, count: IntegerExpression, parts: IntegerExpression = 1, dimension: Int = 0) {
            self.slot = slot
            self.count = count
            self.parts = parts
            self.dimension = dimension
        }
    }

    /// One tensor into as many as the rule has logical names.
    case split(Parts)
    /// As many as the rule has foreign names into one.
    case fuse(Parts)
    /// The tensors of a captured number into one along a new axis; `slot` is the place of each, such as
    /// `n + pp * layers / pp.size`.
    case stack(axis: Int, slot: IntegerExpression)
    /// One tensor into one for each index of an axis; `slot` is the capture of the logical name that tells them apart.
    case unstack(axis: Int, slot: String)
    /// One tensor into copies, such as the experts that a feed-forward part becomes. The first copy of each part is a
    /// tensor, the others are tied to it. One-way: what were copies may differ later.
    case copy(Copies)
    /// The dimensions in another order: dimension i of the result is `order[i]` of the original.
    case permute([Int])
    /// Another element type. One-way where it loses bits; `from` is what the way back casts to.
    case cast(from: ScalarType? = nil, to: ScalarType)
    /// Leaves padding out.
    case strip(Padding)
    /// Adds padding of zeros.
    case pad(Padding)

    /// One tensor into several.
    public static func split(
        dimension: Int, sizes: [IntegerExpression]? = nil, groups: IntegerExpression = 1
    ) -> RuleTransform {
        .split(Parts(dimension: dimension, sizes: sizes, groups: groups))
    }

    /// Several tensors into one.
    public static func fuse(
        dimension: Int, sizes: [IntegerExpression]? = nil, groups: IntegerExpression = 1
    ) -> RuleTransform {
        .fuse(Parts(dimension: dimension, sizes: sizes, groups: groups))
    }

    /// One tensor into copies of it, or of its parts.
    public static func copy(
        slot: String, count: IntegerExpression, parts: IntegerExpression = 1, dimension: Int = 0
    ) -> RuleTransform {
        .copy(Copies(slot: slot, count: count, parts: parts, dimension: dimension))
    }

    /// Leaves padding out.
    public static func strip(
        dimension: Int, extent: IntegerExpression, multiple: IntegerExpression? = nil
    ) -> RuleTransform {
        .strip(Padding(dimension: dimension, extent: extent, multiple: multiple))
    }

    /// Adds padding of zeros.
    public static func pad(
        dimension: Int, extent: IntegerExpression, multiple: IntegerExpression? = nil
    ) -> RuleTransform {
        .pad(Padding(dimension: dimension, extent: extent, multiple: multiple))
    }

    /// The two dimensions of a matrix exchanged.
    public static let transpose = RuleTransform.permute([1, 0])
}
