import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor of an input, as the evaluation of a merge reads it.
struct MergeOperand: Sendable {
    let reader: any CheckpointReader
    let description: TensorDescription
    /// The type's number for the kernels; `nil` for one that is only copied.
    let kernelType: Int32?
    /// The tensor over the mapped file, where that was asked for and can be had.
    let mapped: Tensor?

    init(_ reader: any CheckpointReader, _ description: TensorDescription, maps: Bool) throws(CairnError) {
        self.reader = reader
        self.description = description
        kernelType = description.scalarType.kernelNumber
        mapped = maps ? try reader.mapped(description.name) : nil
    }

    /// The bytes of a region: where they are, if the tensor is mapped and the region one run of it, else read into `buffer`.
    ///
    /// - Parameter buffer: Gives memory of a size.
    func bytes(
        of region: Region, in buffer: (Int) -> UnsafeMutableRawBufferPointer
    ) throws -> UnsafeRawBufferPointer {
        let byteCount = try Tensor.byteCount(description.scalarType, region.shape)
        if let mapped, let width = description.scalarType.byteWidth {
            var runs = RegionRuns(of: region, in: description.shape)
            if runs.count == 1, let begin = runs.next() {
                return UnsafeRawBufferPointer(
                    start: mapped.storage.base + mapped.byteOffset + begin * width, count: byteCount)
            }
        }
        let memory = buffer(byteCount)
        var span = memory.mutableBytes
        try reader.read(description.name, region: region, into: &span)
        return UnsafeRawBufferPointer(memory)
    }

    /// The same for the kernels.
    func elements(
        of region: Region, in buffer: (Int) -> UnsafeMutableRawBufferPointer
    ) throws -> cairn_elements {
        cairn_elements(bytes: try bytes(of: region, in: buffer).baseAddress, type: kernelType ?? 0)
    }
}

extension cairn_elements {
    /// No elements: for a base that there is not.
    static var none: cairn_elements { cairn_elements(bytes: nil, type: 0) }

    /// The same from an element on.
    func advanced(by count: Int, width: Int) -> cairn_elements {
        cairn_elements(bytes: bytes.map { $0 + count * width }, type: type)
    }
}
