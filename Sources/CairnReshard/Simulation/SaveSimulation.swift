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
        start = ContinuousClock.now
        manifestByteCount = try index.manifest.encoded().count
        manifestSeconds = (ContinuousClock.now - start) / .seconds(1)
        tensorCount = sorted.count
        layoutCount = index.manifest.layouts.count
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
