import CairnBase
import CairnCheckpoint
import CairnTensor

/// Reads tensors block by block into the same memory, however large they are.
final class TensorBlocks {
    private let reader: any CheckpointReader
    private let byteLimit: Int
    private var buffer: UnsafeMutableRawBufferPointer

    /// - Parameter byteLimit: the most bytes of a block, where the tensor's shape allows.
    init(_ reader: any CheckpointReader, byteLimit: Int = 4 << 20) {
        self.reader = reader
        self.byteLimit = byteLimit
        buffer = .allocate(byteCount: 0, alignment: 64)
    }

    deinit { buffer.deallocate() }

    /// The regions of a tensor that are read in turn, in the order of its elements.
    func regions(of tensor: TensorDescription) -> SlabSequence { SlabSequence(of: tensor, byteLimit: byteLimit) }

    /// Reads one region and hands its bytes to `body`.
    ///
    /// - Throws: the reader's errors and those of `body`.
    func withBlock(
        _ tensor: TensorDescription, _ region: Region, _ body: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let byteCount = tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0
        if buffer.count < byteCount {
            buffer.deallocate()
            buffer = .allocate(byteCount: byteCount, alignment: 64)
        }
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<byteCount])
        var destination = part.mutableBytes
        try reader.read(tensor.name, region: region, into: &destination)
        try body(UnsafeRawBufferPointer(part))
    }
}
