import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor
import CairnTesting
import CairnUniversal

/// A checkpoint in memory.
struct MemoryCheckpoint: CheckpointReader {
    var state = TrainingState()
    var values: [NamedValue] = []

    var format: String { "memory" }
    var source: String { "memory" }

    init() {}

    init(_ tensors: KeyValuePairs<String, Tensor>) {
        for (name, tensor) in tensors { state.set(tensor, for: name) }
    }

    /// A copy of everything that a reader lists.
    init(reading reader: any CheckpointReader) throws {
        for tensor in reader.tensors { state.set(try reader.tensor(tensor.name), for: tensor.name) }
        values = reader.values
    }

    var tensors: [TensorDescription] {
        state.tensors.map { TensorDescription(name: $0.name, scalarType: $0.tensor.scalarType, shape: $0.tensor.shape) }
            .sorted { ExactString($0.name) < ExactString($1.name) }
    }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let tensor = try state.tensor(name)
        try RegionCopy.copy(
            tensor.scalarType, from: tensor.bytes, of: tensor.shape, region: region, into: &destination,
            of: region.shape, region: Region(whole: region.shape))
    }

    /// Adds a tensor of random bytes, or of random small numbers where they are to be reckoned with.
    mutating func add(
        _ name: String, _ type: ScalarType = .f32, _ shape: Shape, using generator: inout SeededGenerator
    ) throws {
        let tensor = try Tensor(type, shape) { destination in
            destination.withUnsafeMutableBytes { bytes in
                for index in bytes.indices { bytes[index] = UInt8.random(in: 0...0x3f, using: &generator) }
            }
        }
        state.set(tensor, for: name)
    }
}

/// Names, types, shapes and bytes that differ between two checkpoints; `nil` if none do.
func difference(_ one: any CheckpointReader, _ other: any CheckpointReader) throws -> String? {
    let names = one.tensors.map(\.name), others = other.tensors.map(\.name)
    guard names == others else {
        let only = Set(names).symmetricDifference(others).sorted()
        return "names differ: \(only.prefix(6))"
    }
    for (first, second) in zip(one.tensors, other.tensors) {
        guard first.scalarType == second.scalarType, first.shape == second.shape else {
            return "\(first.name): \(first.scalarType)\(first.shape) and \(second.scalarType)\(second.shape)"
        }
        guard try one.tensor(first.name) == other.tensor(second.name) else { return "\(first.name): bytes differ" }
    }
    guard one.values == other.values else { return "values differ" }
    return nil
}

/// The shards of a logical checkpoint, in memory.
func shards(_ divided: DividedCheckpoint) throws -> [MemoryCheckpoint] {
    try (0..<divided.mesh.rankCount).map { try MemoryCheckpoint(reading: divided.shard(ofRank: $0)) }
}
