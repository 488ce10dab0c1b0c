internal import CairnBase
internal import CairnCommunication
public import CairnLayout

/// How the training of a transformer is sharded over ranks.
///
/// The axes of ``mesh`` say how: `dp` divides each batch, `ep` each batch and the experts, `tp` each matrix, `pp` the
/// layers. They stand in any order, and one that is missing has size 1.
public struct ParallelConfiguration: Sendable, Hashable {
    /// The ranks.
    public var mesh: DeviceMesh
    /// Whether the ranks of `dp` share the optimizer's state (ZeRO stage 1, Rajbhandari et al. 2020) instead of each
    /// keeping all of it: what is updated element by element as parts of one flat buffer, Muon's matrices whole, each
    /// with one rank.
    public var zero = false
    /// Into how many parts a rank of `dp` divides its examples, one behind the other in the pipeline; `nil` takes two
    /// for each stage of several.
    public var microBatches: Int?
    /// In which order a stage works on them.
    public var schedule = PipelineSchedule.oneForwardOneBackward
    /// The layers of each stage; `nil` divides them as evenly as can be, the larger numbers first.
    public var stageLayers: [Int]?

    public init(mesh: DeviceMesh, zero: Bool = false) {
        self.mesh = mesh
        self.zero = zero
    }
}

extension ParallelConfiguration {
    var dataCount: Int { mesh.size(of: AxisName.data) ?? 1 }
    var tensorCount: Int { mesh.size(of: AxisName.tensor) ?? 1 }
    var expertRankCount: Int { mesh.size(of: AxisName.experts) ?? 1 }
    var stageCount: Int { mesh.size(of: AxisName.pipeline) ?? 1 }

    /// How many micro-batches there are.
    var microBatchCount: Int { microBatches ?? (stageCount > 1 ? 2 * stageCount : 1) }

    /// The layers of each stage of a model that this fits.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when it does not.
    func stages(of model: TransformerConfiguration) throws(CairnError) -> [Range<Int>] {
        for axis in mesh.axes where !AxisName.all.contains(axis.name) {
            throw CairnError(
                .invalidArgument, "training knows nothing of the mesh axis \"\(axis.name)\"",
                .init(expected: AxisName.all.joined(separator: ", ")))
        }
        guard microBatchCount >= 1, microBatchCount <= Self.largestMicroBatchCount else {
            throw CairnError(
                .invalidArgument, "the number of micro-batches is out of range",
                .init(expected: "1 to \(Self.largestMicroBatchCount)", found: "\(microBatchCount)"))
        }
        let smallest = min(
            model.heads, model.vocabularySize, model.innerWidth, model.experts?.width ?? model.innerWidth)
        guard tensorCount <= smallest else {
            throw CairnError(
                .invalidArgument, "a matrix cannot be sharded over so many ranks",
                .init(
                    expected: "tp of at most \(smallest) for \(model.heads) heads, \(model.vocabularySize) tokens",
                    found: "\(tensorCount)"))
        }
        guard expertRankCount == 1 || expertRankCount <= model.experts?.count ?? 0 else {
            throw CairnError(
                .invalidArgument, "experts cannot be sharded over so many ranks",
                .init(expected: "ep of at most \(model.experts?.count ?? 1)", found: "\(expertRankCount)"))
        }
        let counts =
            stageLayers
            ?? (0..<stageCount).map {
                TransformerPart.balanced(model.layers, part: $0, of: stageCount).count
            }
        guard counts.count == stageCount, counts.allSatisfy({ (1...model.layers).contains($0) }),
            counts.reduce(0, +) == model.layers
        else {
            throw CairnError(
                .invalidArgument, "the layers do not make \(stageCount) pipeline stages",
                .init(expected: "\(model.layers) layers in all, at least one a stage", found: "\(counts)"))
        }
        var end = 0
        return counts.map { count in
            defer { end += count }
            return end..<end + count
        }
    }

    /// Two tags a micro-batch, of 32,768 that a communicator has.
    private static let largestMicroBatchCount = 1 << 14
}

/// The axes that training divides its work over.
enum AxisName {
    static let data = "dp"
    static let tensor = "tp"
    static let pipeline = "pp"
    static let experts = "ep"
    static let all = [data, experts, tensor, pipeline]
}

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
