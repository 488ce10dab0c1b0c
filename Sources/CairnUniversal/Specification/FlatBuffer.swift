/// A one-dimensional foreign tensor that holds many, one behind the other, cut over a mesh axis.
///
/// It is taken apart before any rule is asked: each member appears on every rank under its own name, flattened, with
/// what the rank holds of it, and a rule claims it with ``PlacementRule/Flattening/buffer``.
public struct FlatBuffer: Sendable, Hashable {
    /// How the members lie in it.
    public enum Arrangement: Sendable, Hashable {
        /// One buffer over all members, cut into equal parts wherever tensors end (ZeRO-1, ZeRO-2, FSDP1).
        ///
        /// - Parameters:
        ///   - alignment: Every member begins at a multiple of it.
        ///   - multiple: The whole is padded to a multiple of it and of the number of parts.
        case group(alignment: IntegerExpression = 1, multiple: IntegerExpression = 1)
        /// Each member is cut by itself; each rank's buffer has `ceil(count / parts)` elements of each (ZeRO-3).
        case perTensor
    }

    /// A tensor in the buffer.
    public struct Member: Sendable, Hashable {
        /// The foreign name under which rules see it.
        public var name: String
        /// Its shape on a rank before the buffer is cut; expressions may use the rank's coordinates.
        public var shape: [IntegerExpression]

        public init(_ name: String, _ shape: [IntegerExpression]) {
            self.name = name
            self.shape = shape
        }
    }

    /// The foreign name of the buffer, the same on every rank.
    public var name: String
    /// The mesh axis that cuts it.
    public var axis: String
    public var arrangement: Arrangement
    /// Whether the padding at the end is left out of the last ranks' buffers.
    public var isTrimmed: Bool
    /// In the order in which they lie in the buffer.
    public var members: [Member]
    /// On which coordinates of other axes the buffer is, by axis; everywhere on an axis that is not named.
    public var present: [Presence]

    /// Some coordinates of an axis.
    public struct Presence: Sendable, Hashable {
        public var axis: String
        public var coordinates: [IntegerExpression]

        public init(_ axis: String, on coordinates: [IntegerExpression]) {
            self.axis = axis
            self.coordinates = coordinates
        }
    }

    public init(
        _ name: String, over axis: String, arrangement: Arrangement = .group(), isTrimmed: Bool = false,
        present: [Presence] = [], members: [Member]
    ) {
        self.name = name
        self.axis = axis
        self.arrangement = arrangement
        self.isTrimmed = isTrimmed
        self.members = members
        self.present = present
    }
}
