package import CairnBase
package import CairnLayout
public import CairnTensor

/// The rules by which a foreign distributed checkpoint and a logical one are the same thing.
///
/// A foreign checkpoint is one reader a rank of a mesh, each with that rank's local tensors under foreign names. The
/// rules say how they lie on the mesh and what they become; ``GatheredReader`` reads them as one logical checkpoint,
/// ``ShardReader`` writes a logical checkpoint as any rank of such a mesh sees it, of any size. `Docs/Rules.md` is the
/// language's reference.
///
/// ```swift
/// let spec = try UniversalSpec(mesh: ["pp", "tp"], parameters: ["layers": 4]) {
///     Rule("embedding", from: "embed.weight", to: "embed.weight") {
///         On("pp", .present(on: [0]))
///         On("tp", .shard(0))
///     }
///     Rule("layers", from: "layers.{n:0..<layers/pp.size}.{rest**}", to: "layers.{n + pp*layers/pp.size}.{rest}")
/// }
/// ```
public struct UniversalSpec: Sendable, Hashable {
    /// A named number that expressions use.
    package struct Parameter: Sendable, Hashable {
        package var name: String
        package var value: Int

        package init(_ name: String, _ value: Int) {
            self.name = name
            self.value = value
        }
    }

    /// What the specification is for, in a sentence.
    package var summary: String?
    /// The mesh axes, the last of which varies fastest with the rank.
    package var axes: [MeshAxis]
    /// In the order in which they were given.
    package var parameters: [Parameter]
    package var moments: [Moment] = []
    package var buffers: [FlatBuffer] = []
    package var rules: [Rule] = []

    /// An axis by name, and its size unless that is given with the shards.
    public struct MeshAxis: Sendable, Hashable, ExpressibleByStringLiteral {
        package var name: String
        package var size: Int?

        public init(_ name: String, size: Int? = nil) {
            self.name = name
            self.size = size
        }

        public init(stringLiteral value: String) { self.init(value) }
    }

    /// A specification from its parts; ``validate()`` has not been called.
    package init(axes: [MeshAxis], parameters: [Parameter] = [], rules: [Rule] = []) {
        self.axes = axes
        self.parameters = parameters
        self.rules = rules
    }

    /// A specification, read and checked as far as it goes without a checkpoint.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``, naming the rule and what is wrong with it.
    public init(
        mesh axes: [MeshAxis], parameters: KeyValuePairs<String, Int> = [:],
        @SpecificationBuilder _ content: () throws -> [any SpecificationElement]
    ) throws {
        self.init(axes: axes, parameters: parameters.map { Parameter($0.key, $0.value) })
        for element in try content() { element.add(to: &self) }
        try validate()
    }

    /// The mesh with the given sizes, or those written in the specification.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an axis without a size, or a size for an axis there is not.
    package func mesh(_ sizes: [String: Int] = [:]) throws(CairnError) -> DeviceMesh {
        var sized: [DeviceMesh.Axis] = []
        for axis in axes {
            guard let size = sizes[axis.name] ?? axis.size else {
                throw CairnError(
                    .invalidArgument, "the mesh axis \"\(axis.name)\" has no size",
                    .init(advice: "give one, such as \(axis.name)=1"))
            }
            sized.append(.init(axis.name, size))
        }
        if let other = sizes.keys.sorted().first(where: { name in !axes.contains { $0.name == name } }) {
            throw CairnError(
                .invalidArgument, "the rules have no mesh axis \"\(other)\"",
                .init(expected: axes.map(\.name).joined(separator: ", ")))
        }
        return try DeviceMesh(axes: sized)
    }

    /// The mesh of a number of shards: at most one axis may be without a size, which is then what is left.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when the sizes do not make up the number.
    package func mesh(_ sizes: [String: Int] = [:], rankCount: Int) throws(CairnError) -> DeviceMesh {
        var sizes = sizes
        let open = axes.filter { sizes[$0.name] == nil && $0.size == nil }
        if open.count == 1 {
            let known = try mesh(sizes.merging([open[0].name: 1]) { first, _ in first }).rankCount
            if rankCount % known == 0, rankCount > 0 { sizes[open[0].name] = rankCount / known }
        } else if rankCount == 1 {
            for axis in open { sizes[axis.name] = 1 }
        }
        let mesh = try mesh(sizes)
        guard mesh.rankCount == rankCount else {
            throw CairnError(
                .invalidArgument, "the mesh has another number of ranks than there are shards",
                .init(expected: "\(rankCount) shards", found: "\(mesh)"))
        }
        return mesh
    }
}

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
        package var name: String
        /// Its shape on a rank before the buffer is cut; expressions may use the rank's coordinates.
        package var shape: [IntegerExpression]

        public init(_ name: String, _ shape: [IntegerExpression]) {
            self.name = name
            self.shape = shape
        }
    }

    /// The foreign name of the buffer, the same on every rank.
    package var name: String
    /// The mesh axis that cuts it.
    package var axis: String
    package var arrangement: Arrangement
    /// Whether the padding at the end is left out of the last ranks' buffers.
    package var isTrimmed: Bool
    /// In the order in which they lie in the buffer.
    package var members: [Member]
    /// On which coordinates of other axes the buffer is, by axis; everywhere on an axis that is not named.
    package var present: [Presence]

    /// Some coordinates of an axis.
    public struct Presence: Sendable, Hashable {
        package var axis: String
        package var coordinates: [IntegerExpression]

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

/// What an optimizer keeps for each parameter: every rule holds for it too, under names made from the parameter's.
public struct Moment: Sendable, Hashable {
    /// How messages and rules call it: `exp_avg`.
    package var name: String
    /// The foreign name: `optimizer.exp_avg.{fqn}`, where `{fqn}` is the parameter's foreign name.
    package var from: String
    /// The logical name, where `{fqn}` is the parameter's logical name.
    package var to: String
    /// What its element type must be; `nil` for any. A rule's casts are for parameters and are not applied to moments.
    package var scalarType: ScalarType?
    /// Steps that take the place of the rule's on the same axis, or come behind them: moments that ZeRO cuts over an
    /// axis on which the parameter is replicated.
    package var placement: [On]
    /// Whether a parameter may lack it.
    package var isOptional: Bool

    public init(
        _ name: String, from: String, to: String, scalarType: ScalarType? = nil, placement: [On] = [],
        isOptional: Bool = false
    ) {
        self.name = name
        self.from = from
        self.to = to
        self.scalarType = scalarType
        self.placement = placement
        self.isOptional = isOptional
    }
}
