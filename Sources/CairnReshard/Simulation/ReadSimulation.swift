import CairnBase
package import CairnCheckpoint
package import CairnLayout
import Synchronization

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
