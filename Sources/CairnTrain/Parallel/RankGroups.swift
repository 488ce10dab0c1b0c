internal import CairnBase
internal import CairnCommunication
internal import CairnLayout

/// The groups that a rank belongs to.
struct RankGroups: Sendable {
    /// The ranks along one axis of the mesh.
    struct Axis: Sendable {
        let communicator: any Communicator
        /// Which ones, as the mesh counts them.
        let ranks: [Int]
        var index: Int { communicator.rank }
        var count: Int { communicator.size }
    }

    let world: any Communicator
    /// Ranks with the same part of the model and other examples.
    let data: Axis
    /// Ranks with other parts of the same matrices.
    let tensor: Axis
    /// Ranks with other layers.
    let pipeline: Axis
    /// The first and the last stage, which both have the tied embedding; alone elsewhere.
    let ends: any Communicator

    /// A collective call.
    init(_ mesh: DeviceMesh, _ world: any Communicator) throws(CairnError) {
        guard world.size == mesh.rankCount else {
            throw CairnError(
                .invalidArgument, "the mesh has another number of ranks than the group",
                .init(expected: "\(world.size)", found: "\(mesh.rankCount) in \(mesh)"))
        }
        let coordinates = mesh.coordinates(ofRank: world.rank)
        /// The ranks that stand where this one does on every other axis.
        func ranks(along name: String) -> [Int] {
            guard let axis = mesh.axes.firstIndex(where: { $0.name == name }) else { return [world.rank] }
            return (0..<mesh.axes[axis].size).map { index in
                var place = coordinates
                place[axis] = index
                return mesh.rank(at: place)
            }
        }
        func axis(_ name: String) throws(CairnError) -> Axis {
            let ranks = ranks(along: name)
            return Axis(communicator: try world.split(color: ranks[0], key: world.rank), ranks: ranks)
        }
        self.world = world
        data = try axis(AxisName.data)
        tensor = try axis(AxisName.tensor)
        pipeline = try axis(AxisName.pipeline)
        let isEnd = pipeline.index == 0 || pipeline.index == pipeline.count - 1
        ends = try world.split(color: isEnd ? pipeline.ranks[0] : world.size + world.rank, key: world.rank)
    }
}

/// The partners of tensor parallelism, reached through a communicator.
struct CommunicatingPartners: TensorPartners {
    private let communicator: any Communicator
    let count: Int
    let index: Int

    init(_ axis: RankGroups.Axis) {
        communicator = axis.communicator
        count = axis.count
        index = axis.index
    }

    func sum(_ values: UnsafeMutablePointer<Float>, count: Int) throws(CairnError) {
        guard self.count > 1 else { return }
        try communicator.allReduceSum(UnsafeMutableBufferPointer(start: values, count: count))
    }

    func gather(_ values: UnsafeMutablePointer<Float>, count: Int) throws(CairnError) {
        guard self.count > 1 else { return }
        try communicator.allGather(
            UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(start: values, count: self.count * count)),
            counts: Array(repeating: count * MemoryLayout<Float>.stride, count: self.count))
    }
}
