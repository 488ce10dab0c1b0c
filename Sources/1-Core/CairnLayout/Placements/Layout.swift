public import CairnBase
public import CairnTensor

/// How a tensor lies on a mesh: in closed form, so that every rank knows what every other holds.
///
/// ```swift
/// let mesh = try DeviceMesh(["dp": 2, "tp": 4])
/// let layout = try Layout(mesh, ["tp": .shard(0), "dp": .flatten(.perTensor)])
/// ```
public struct Layout: Sendable, Hashable {
    /// What one axis does.
    public struct Step: Sendable, Hashable {
        /// The name of the mesh axis.
        public let axis: String
        /// What it does.
        public let placement: Placement

        public init(_ axis: String, _ placement: Placement) {
            self.axis = axis
            self.placement = placement
        }
    }

    /// The ranks.
    public let mesh: DeviceMesh
    /// In the order of application: each step shards what the earlier ones left. Axes not named replicate.
    ///
    /// FSDP over tensor parallelism and tensor parallelism over FSDP differ only in the order.
    public let steps: [Step]
    /// The extent, by dimension, that the tensor is padded to before it is sharded. Padding has room in the local
    /// tensors and is never covered nor stored.
    package let padding: [Int: Int]
    /// Explicit: the regions of each rank, instead of steps.
    ///
    /// A rank with one region holds it as it is; one with several holds them one behind the other, as a one-dimensional
    /// tensor; one with none does not hold the tensor.
    package let explicit: [[Region]]?
    /// Computed once: there may be as many regions as ranks and more, and as many such layouts as tensors.
    private let explicitHash: Int

    /// Makes a layout of steps, for example `["tp": .shard(0), "dp": .flatten(.perTensor)]`.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``, with the axis and what is wrong about its placement. What depends
    ///   on the tensor's shape is checked by ``ShardedShape``.
    public init(
        _ mesh: DeviceMesh, _ steps: KeyValuePairs<String, Placement>, padding: [Int: Int] = [:]
    ) throws(CairnError) {
        try self.init(mesh, steps: steps.map { Step($0.key, $0.value) }, padding: padding)
    }

    /// Makes a layout of steps.
    ///
    /// - Throws: As ``init(_:_:padding:)``.
    public init(_ mesh: DeviceMesh, steps: [Step], padding: [Int: Int] = [:]) throws(CairnError) {
        try LayoutValidation.check(steps, on: mesh)
        try LayoutValidation.check(padding: padding)
        self.mesh = mesh
        self.steps = steps
        self.padding = padding
        explicit = nil
        explicitHash = 0
    }

    /// Makes an explicit layout.
    ///
    /// - Parameter explicit: The regions of each rank of the mesh.
    /// - Throws: ``CairnError/Code/invalidArgument`` when there are not as many lists as ranks.
    public init(_ mesh: DeviceMesh, explicit: [[Region]]) throws(CairnError) {
        guard explicit.count == mesh.rankCount else {
            throw CairnError(
                .invalidArgument, "an explicit layout lists the regions of every rank",
                .init(
                    expected: "\(mesh.rankCount) lists for the mesh \(mesh)", found: "\(explicit.count)",
                    advice: "give an empty list to a rank that holds nothing"))
        }
        self.mesh = mesh
        self.explicit = explicit
        explicitHash = explicit.hashValue
        steps = []
        padding = [:]
    }

    private init(replicatedOn mesh: DeviceMesh) {
        self.mesh = mesh
        steps = []
        padding = [:]
        explicit = nil
        explicitHash = 0
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(mesh)
        hasher.combine(steps)
        hasher.combine(padding)
        hasher.combine(explicitHash)
    }

    /// Every rank holds the whole tensor.
    public static func replicated(on mesh: DeviceMesh) -> Layout { Layout(replicatedOn: mesh) }
}

/// What one mesh axis does to a tensor.
public enum Placement: Sendable, Hashable {
    /// Every coordinate holds the same.
    case replicate
    /// The coordinates split one dimension.
    case shard(Sharding)
    /// The coordinates cut the row-major run of what the earlier steps left to a rank (ZeRO, FSDP1).
    case flatten(Flattening)
    /// Only these coordinates, ascending, hold the tensor (a pipeline stage, an expert's owner); replicas of each
    /// other.
    case present(on: [Int])
    /// Every coordinate holds a partial value of the same shape; the tensor is their reduction.
    case partial(Reduction)

    /// Splits a dimension whole.
    ///
    /// - Parameter unit: Elements that stay together, such as a head's.
    public static func shard(_ dimension: Int, _ division: Division = .even, unit: Int = 1) -> Placement {
        .shard(Sharding(dimension: dimension, sections: [.init(size: nil, division: division, unit: unit)]))
    }

    /// Splits each section of a dimension by itself.
    public static func shard(_ dimension: Int, sections: [Sharding.Section], repeats: Int = 1) -> Placement {
        .shard(Sharding(dimension: dimension, sections: sections, repeats: repeats))
    }
}

/// How the partial values of a partial tensor become the tensor.
public enum Reduction: String, Sendable, Hashable, CaseIterable {
    case sum
    case mean
}

/// A tensor of the whole state and how it lies on the mesh. Every rank knows all of them.
public struct PlacedTensor: Sendable, Hashable {
    /// The fully-qualified name.
    public let name: String
    /// The type of the elements.
    public let scalarType: ScalarType
    /// The shape of the whole tensor, without padding.
    public let shape: Shape
    /// How it lies on the mesh.
    public let layout: Layout

    public init(name: String, scalarType: ScalarType, shape: Shape, layout: Layout) {
        self.name = name
        self.scalarType = scalarType
        self.shape = shape
        self.layout = layout
    }

    /// The layout applied to the shape.
    ///
    /// - Throws: Naming the tensor, ``CairnError/Code/invalidArgument`` with axis and dimension when a step names a dimension
    ///   that the shape does not have, an extent cannot be sharded as asked, sizes or flat buffers do not fit, or an explicit
    ///   region lies outside; ``CairnError/Code/unsupported`` when a rank would hold more than 131,072 boxes, or the shape has
    ///   more than 255 dimensions.
    public func sharded() throws(CairnError) -> ShardedShape {
        do {
            return try ShardedShape(layout, shape: shape)
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }
}

extension PlacedTensor: CustomStringConvertible {
    /// `model.embedding BF16 [50257, 768] on dp=2,tp=4: tp: shard 0`
    public var description: String { "\(name) \(scalarType) \(shape) on \(layout.mesh): \(layout)" }
}

extension Layout: CustomStringConvertible {
    /// `tp: shard 0, dp: flatten`; `replicate` without steps.
    public var description: String {
        if let explicit {
            return "explicit, \(explicit.reduce(0) { $0 + $1.count }) regions"
        }
        var parts = steps.map { "\($0.axis): \($0.placement)" }
        for (dimension, extent) in padding.sorted(by: { $0.key < $1.key }) {
            parts.append("dimension \(dimension) padded to \(extent)")
        }
        return parts.isEmpty ? "replicate" : parts.joined(separator: ", ")
    }
}

extension Placement: CustomStringConvertible {
    /// `shard 0 chunked`, `flatten equal 12 from 5`, `present 0 2`, `partial sum`.
    public var description: String {
        switch self {
        case .replicate: "replicate"
        case .shard(let sharding): "shard \(sharding)"
        case .flatten(let flattening): "flatten\(flattening)"
        case .present(let coordinates): "present \(Self.shortened(coordinates))"
        case .partial(let reduction): "partial \(reduction.rawValue)"
        }
    }

    fileprivate static func shortened(_ numbers: [Int]) -> String {
        let shown = numbers.prefix(8).map { "\($0)" }.joined(separator: " ")
        return numbers.count > 8 ? shown + " … (\(numbers.count))" : shown
    }
}

extension Sharding: CustomStringConvertible {
    /// `0`, `0 chunked`, `0 in (4096 unit 128 | 1024 | 1024) x 4`.
    public var description: String {
        if repeats == 1, sections.count == 1, sections[0].size == nil {
            return "\(dimension)\(sections[0])"
        }
        let shown = sections.prefix(8).map { ($0.size.map { "\($0)" } ?? "all") + "\($0)" }.joined(separator: " | ")
        let pattern = sections.count > 8 ? shown + " … (\(sections.count))" : shown
        return "\(dimension) in (\(pattern))" + (repeats == 1 ? "" : " x \(repeats)")
    }
}

extension Sharding.Section: CustomStringConvertible {
    /// What differs from an even division of single elements, with a space before it.
    public var description: String {
        let manner =
            switch division {
            case .even: ""
            case .chunked: " chunked"
            case .balanced: " balanced"
            case .sizes(let sizes): " sizes \(Placement.shortened(sizes))"
            }
        return manner + (unit == 1 ? "" : " unit \(unit)")
    }
}

extension Flattening: CustomStringConvertible {
    /// What differs from each tensor by itself, with a space before it.
    public var description: String {
        switch partition {
        case .perTensor: ""
        case .equal(let size): " equal \(size) from \(start)"
        case .cuts(let cuts): " cuts \(Placement.shortened(cuts)) from \(start)"
        }
    }
}
