import CairnBase
package import CairnCheckpoint
package import CairnLayout
import CairnTensor
import Synchronization

/// What it would cost ranks to save a state: the plan, the manifest and the shares are really computed; no byte of any
/// tensor exists.
package struct SaveSimulation: Sendable {
    /// The tensors of the state.
    package let tensorCount: Int
    /// The distinct layouts among them.
    package let layoutCount: Int
    /// The ranks.
    package let rankCount: Int
    /// The length of the manifest as it would be written.
    package let manifestByteCount: Int
    /// The time to write the manifest's text.
    package let manifestSeconds: Double
    /// The time for one rank in one thread to find out what it writes.
    package let planSeconds: Double
    /// The bytes of tensors that ranks write.
    package let bytes: Distribution
    /// The boxes that ranks write.
    package let pieces: Distribution
    /// The distinct shards of all tensors: what a format that lists every one of them must list.
    package let shardCount: Int
    /// The planned checkpoint, for ``ReadSimulation``.
    package let index: CheckpointIndex

    /// - Throws: What layouts that do not fit throw, naming the tensor.
    package init(_ tensors: [PlacedTensor]) throws {
        let sorted = tensors.sorted { ExactString($0.name) < ExactString($1.name) }
        var start = ContinuousClock.now
        let plan = try WritePlan(sorted)
        let writeCount = plan.writes(ofRank: plan.rankCount / 2).count
        planSeconds = (ContinuousClock.now - start) / .seconds(1)
        _ = writeCount
        index = try CheckpointIndex(planned: sorted, source: "simulation")
        let manifest = try Manifest(asLongAsOf: sorted)
        start = ContinuousClock.now
        manifestByteCount = try manifest.encoded().count
        manifestSeconds = (ContinuousClock.now - start) / .seconds(1)
        tensorCount = sorted.count
        layoutCount = manifest.layouts.count
        rankCount = plan.rankCount
        let results = Mutex([(Int, Int)](repeating: (0, 0), count: plan.rankCount))
        let width = 64
        let blocks = plan.rankCount.dividedRoundingUp(by: width)
        try ThreadPool.shared.forEach(blocks, width: ThreadPool.processorCount) { block in
            for rank in block * width..<min(plan.rankCount, (block + 1) * width) {
                var (bytes, pieces) = (0, 0)
                for write in plan.writes(ofRank: rank) {
                    let type = plan.tensors[write.tensor].scalarType
                    bytes += type.byteCount(elementCount: write.global.elementCount) ?? 0
                    pieces += 1
                }
                let result = (bytes, pieces)
                results.withLock { $0[rank] = result }
            }
        }
        let shares = results.withLock { $0 }
        bytes = Distribution(shares.map(\.0))
        pieces = Distribution(shares.map(\.1))
        shardCount = sorted.reduce(0) { $0 + $1.shardCount }
    }
}

extension PlacedTensor {
    /// The number of parts that the tensor is sharded into.
    fileprivate var shardCount: Int {
        layout.steps.reduce(1) { count, step in
            switch step.placement {
            case .shard, .flatten, .partial: count * (layout.mesh.size(of: step.axis) ?? 1)
            case .replicate, .present: count
            }
        }
    }
}

/// What it would cost the ranks of a mesh to load a checkpoint: plans that are really computed, from metadata alone.
package struct ReadSimulation: Sendable {
    /// The target's ranks in all.
    package let rankCount: Int
    /// How many of them were planned, evenly spread.
    package let plannedRankCount: Int
    /// The time that planning took for one rank in one thread, the most of all.
    package let planSeconds: Double
    /// For the planned ranks: bytes needed, bytes read (whole chunks), chunks, files, pieces.
    package let needed: Distribution
    package let read: Distribution
    package let chunks: Distribution
    package let files: Distribution
    package let pieces: Distribution

    /// Bytes read for one that is needed, over all planned ranks.
    package var amplification: Double { needed.total == 0 ? 1 : Double(read.total) / Double(needed.total) }

    /// Plans what ranks read of a checkpoint.
    ///
    /// - Parameters:
    ///   - ranks: The ranks to plan; `nil` for at most `sampleCount`, evenly spread.
    ///   - chunkByteCount: What one checksum covers.
    /// - Throws: As ``ReadPlan/init(planning:rank:tensors:)``.
    package init(
        _ index: CheckpointIndex, tensors: [PlacedTensor], ranks: [Int]? = nil, sampleCount: Int = 64,
        chunkByteCount: Int = 1 << 20
    ) throws {
        rankCount = tensors.first?.layout.mesh.rankCount ?? 1
        let count = min(max(1, sampleCount), rankCount)
        let (total, ranks) = (rankCount, ranks)
        let chosen = ranks ?? (0..<count).map { Self.spread($0, over: total, count: count) }
        plannedRankCount = chosen.count
        let results = Mutex<[(ReadPlan.Cost, Double)]>([])
        try ThreadPool.shared.forEach(chosen.count, width: ThreadPool.processorCount) { position in
            let start = ContinuousClock.now
            let plan = try ReadPlan(planning: index, rank: chosen[position], tensors: tensors)
            let cost = try plan.cost(chunkByteCount: chunkByteCount)
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            results.withLock { $0.append((cost, seconds)) }
        }
        let costs = results.withLock { $0 }
        planSeconds = costs.map(\.1).max() ?? 0
        needed = Distribution(costs.map(\.0.neededByteCount))
        read = Distribution(costs.map(\.0.readByteCount))
        chunks = Distribution(costs.map(\.0.chunkCount))
        files = Distribution(costs.map(\.0.fileCount))
        pieces = Distribution(costs.map(\.0.pieceCount))
    }

    /// Numbers in all parts of the range that share no stride with any mesh axis (multiples of the golden ratio).
    private static func spread(_ index: Int, over total: Int, count: Int) -> Int {
        guard count < total else { return index }
        let position = Double(index) * 0.618_033_988_749_895
        return min(total - 1, Int((position - position.rounded(.down)) * Double(total)))
    }
}

/// The least, the mean and the most of some counts.
package struct Distribution: Sendable {
    package let minimum: Int
    package let mean: Double
    package let maximum: Int
    package let total: Int

    init(_ counts: [Int]) {
        minimum = counts.min() ?? 0
        maximum = counts.max() ?? 0
        total = counts.reduce(0) { $0.adding(clamped: $1) }
        mean = counts.isEmpty ? 0 : Double(total) / Double(counts.count)
    }

    /// The most over the mean: 1 when all are equal.
    package var imbalance: Double { mean == 0 ? 1 : Double(maximum) / mean }
}
