import CairnBase
import CairnCheckpoint
import CairnDelta
import CairnStorage
import CairnTensor

/// Deltas of arbitrary bytes.
enum FuzzDelta {
    /// What the seeds are deltas of.
    private static let base: (any CheckpointReader)? = {
        let store = CheckpointStore(storage: MemoryStorage(), name: "base")
        var state = TrainingState()
        state.set(Tensor((0..<64).map { Float($0) }), for: "a")
        state.set(Tensor([Float](repeating: 1, count: 8)), for: "b")
        state.set(.integer(3), for: "step")
        _ = try? store.save(state, step: 1)
        return try? store.open(step: 1)
    }()

    static func run(_ bytes: [UInt8]) throws {
        for type in [ScalarType.bf16, .f32] {
            for count in [16, 256] {
                try? DecodedChanges.with(bytes, chunkByteCount: count, type) { changes throws(CairnError) in
                    var target = [UInt8](repeating: 3, count: count)
                    target.withUnsafeMutableBytes { changes.apply(0..<count, to: $0) }
                }
            }
        }
        let end = bytes.firstIndex(of: 0) ?? bytes.count
        let contents = Array(bytes[..<end])
        let changes = Array(bytes[min(bytes.count, end + 1)...])
        let storage = MemoryStorage()
        try storage.publish(file(contents, changes), as: "file.delta")
        let delta = try CheckpointDelta(storage: storage, file: "file.delta")
        _ = "\(delta.summary)"
        guard let base else { return }
        try FuzzReading.all(of: delta.applied(to: base))
    }

    /// A delta with its list of tensors uncompressed.
    private static func file(_ contents: [UInt8], _ changes: [UInt8]) throws -> [UInt8] {
        var length: [UInt8] = []
        length.append(littleEndian: UInt64(contents.count))
        let list = length + contents
        let header = SafeTensorsHeader(
            entries: [
                .init(name: "changes", scalarType: .u8, shape: Shape([changes.count]), byteRange: 0..<changes.count),
                .init(
                    name: "contents", scalarType: .u8, shape: Shape([list.count]),
                    byteRange: changes.count..<changes.count + list.count),
            ], metadata: [(CheckpointDelta.metadataKey, CheckpointDelta.version)])
        return try header.serialized(alignment: 64) + changes + list
    }
}
