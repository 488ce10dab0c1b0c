import CairnBase
import CairnCheckpoint
import CairnTensor

/// Compares a tensor of two checkpoints a block at a time.
enum TensorEquality {
    private static let blockByteCount = 4 << 20

    static func equal(
        _ one: any CheckpointReader, _ other: any CheckpointReader, _ name: String
    ) throws(CairnError) -> Bool {
        let description = try one.description(of: name), otherDescription = try other.description(of: name)
        guard description.shape == otherDescription.shape, description.scalarType == otherDescription.scalarType else {
            return false
        }
        let first = ReaderView(one, description), second = ReaderView(other, otherDescription)
        for slab in SlabSequence(of: description, byteLimit: blockByteCount) {
            guard try first.bytes(of: slab) == second.bytes(of: slab) else { return false }
        }
        return true
    }
}
