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
    public let padding: [Int: Int]
    /// Explicit: the regions of each rank, instead of steps.
    ///
    /// A rank with one region holds it as it is; one with several holds them one behind the other, as a one-dimensional
    /// tensor; one with none does not hold the tensor.
    public let explicit: [[Region]]?
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
