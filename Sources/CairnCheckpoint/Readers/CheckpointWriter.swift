import CairnBase
import CairnTensor

/// Where a checkpoint can be written to, tensor by tensor, with bounded memory.
///
/// The order of calls: ``begin(tensors:values:)``, then each tensor's bytes front to back in the order of `tensors` (tied
/// ones are not written), then ``finish()``. Without `finish` nothing remains that looks like a checkpoint.
public protocol CheckpointWriter: AnyObject {
    /// Announces everything that will come.
    ///
    /// - Returns: What the format cannot carry over, a sentence for each thing, to be shown to the user.
    func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String]

    /// Appends the next bytes of the current tensor.
    func append(_ bytes: RawSpan) throws

    /// Makes the checkpoint whole, durable and visible.
    func finish() throws

    /// Gives up and removes what was written.
    func discard()
}

/// Writes any reader to any writer, reading each byte once, with memory bounded by one buffer.
///
/// - Parameters:
///   - bufferByteCount: The size of the buffer; a tensor larger than that is read in slabs of its first dimensions.
///   - progress: Called with the bytes written so far and in all.
/// - Returns: What the writer's format could not carry over.
/// - Throws: The reader's and the writer's errors; the writer has then been discarded.
public func copyCheckpoint(
    from reader: any CheckpointReader, to writer: any CheckpointWriter, bufferByteCount: Int = 16 << 20,
    progress: (_ written: Int, _ total: Int) throws -> Void = { _, _ in }
) throws -> [String] {
    do {
        let notes = try writer.begin(tensors: reader.tensors, values: reader.values)
        let stored = reader.tensors.filter { $0.tiedTo == nil }
        let total = stored.totalByteCount
        var written = 0
        let buffer = try Tensor(zeros: .u8, [max(1, bufferByteCount)])
        var pieces = buffer
        for tensor in stored {
            for region in SlabSequence(of: tensor, byteLimit: bufferByteCount) {
                let byteCount = tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0
                if byteCount > pieces.byteCount { pieces = try Tensor(zeros: .u8, [byteCount]) }
                try pieces.withMutableElements(as: UInt8.self) { memory in
                    let part = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(memory)[..<byteCount])
                    var destination = part.mutableBytes
                    try reader.read(tensor.name, region: region, into: &destination)
                    try writer.append(UnsafeRawBufferPointer(part).bytes)
                }
                written += byteCount
                try progress(written, total)
            }
        }
        try writer.finish()
        return notes
    } catch {
        writer.discard()
        throw error
    }
}
