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
    /// Ranks with other experts and other examples, and everything else the same.
    let experts: Axis
    /// Ranks with other parts of the same matrices.
    let tensor: Axis
    /// Ranks with other layers.
    let pipeline: Axis
    /// The first and the last stage, which both have the tied embedding; alone elsewhere.
    let ends: any Communicator

    /// Which share of a batch this rank's is, and of how many.
    var share: (index: Int, count: Int) {
        (data.index * experts.count + experts.index, data.count * experts.count)
    }

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
        experts = try axis(AxisName.experts)
        tensor = try axis(AxisName.tensor)
        pipeline = try axis(AxisName.pipeline)
        let isEnd = pipeline.index == 0 || pipeline.index == pipeline.count - 1
        ends = try world.split(color: isEnd ? pipeline.ranks[0] : world.size + world.rank, key: world.rank)
    }
}

/// The partners of tensor and expert parallelism, reached through communicators.
struct CommunicatingPartners: LayerPartners {
    private let communicator: any Communicator
    private let experts: any Communicator
    let count: Int
    let index: Int
    let expertRankCount: Int
    let expertRankIndex: Int

    init(_ groups: RankGroups) {
        communicator = groups.tensor.communicator
        count = groups.tensor.count
        index = groups.tensor.index
        experts = groups.experts.communicator
        expertRankCount = groups.experts.count
        expertRankIndex = groups.experts.index
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
    func gatherCounts(_ counts: [Int]) throws(CairnError) -> [[Int]] {
        guard expertRankCount > 1 else { return [counts] }
        var all = [Int](repeating: 0, count: expertRankCount * counts.count)
        all.replaceSubrange(expertRankIndex * counts.count..<(expertRankIndex + 1) * counts.count, with: counts)
        let byteCounts = Array(repeating: counts.count * MemoryLayout<Int>.stride, count: expertRankCount)
        try all.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try experts.allGather(UnsafeMutableRawBufferPointer(buffer), counts: byteCounts)
        }
        return (0..<expertRankCount).map { Array(all[$0 * counts.count..<($0 + 1) * counts.count]) }
    }

    func exchange(
        _ values: UnsafePointer<Float>, counts: [Int], into received: UnsafeMutablePointer<Float>,
        receivedCounts: [Int]
    ) throws(CairnError) {
        var start = 0
        for (rank, count) in counts.enumerated() {
            if rank == expertRankIndex {
                (received + receivedCounts[..<rank].reduce(0, +)).update(from: values + start, count: count)
            } else if count > 0 {
                try experts.send(
                    UnsafeRawBufferPointer(UnsafeBufferPointer(start: values + start, count: count)), to: rank, tag: 0)
            }
            start += count
        }
        start = 0
        for (rank, count) in receivedCounts.enumerated() {
            if rank != expertRankIndex, count > 0 {
                try experts.receive(
                    UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(start: received + start, count: count)),
                    from: rank, tag: 0)
            }
            start += count
        }
    }
}
