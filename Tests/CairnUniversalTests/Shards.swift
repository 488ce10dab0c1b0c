import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnTesting
import CairnUniversal

/// The shards of a logical checkpoint, in memory.
func shards(_ sharded: ShardedCheckpoint) throws -> [MemoryCheckpoint] {
    try (0..<sharded.mesh.rankCount).map { try MemoryCheckpoint(reading: sharded.shard(ofRank: $0)) }
}

extension MemoryCheckpoint {
    /// Adds a tensor of random bytes that are small numbers in any type, so that they can be reckoned with.
    mutating func add(
        _ name: String, _ type: ScalarType = .f32, _ shape: Shape, using generator: inout SeededGenerator
    ) throws {
        add(name, try .random(type, shape, bytes: 0...0x3f, using: &generator))
    }
}
