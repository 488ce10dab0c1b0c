package import CairnBase
package import CairnTensor

/// A region of a stored tensor and the memory of a local tensor that it goes to.
///
/// `@unchecked Sendable`: the targets of one load are disjoint parts of tensors that nothing else uses yet.
package struct ReadTarget: @unchecked Sendable {
    /// The part of the whole stored tensor.
    package var region: Region
    /// The bytes of the local tensor.
    package var memory: UnsafeMutableRawBufferPointer
    /// The type of the local tensor's elements; they are converted if the stored ones are of another.
    package var scalarType: ScalarType
    /// The shape of the local tensor.
    package var shape: Shape
    /// Where the region stands in the local tensor, with the same extents.
    package var local: Region
    /// What becomes of numbers that the local tensor's type cannot hold.
    package var overflow = OverflowBehavior.ieee
    /// Where that is noted.
    package var recorder: LossRecorder?

    package init(
        region: Region, memory: UnsafeMutableRawBufferPointer, scalarType: ScalarType, shape: Shape, local: Region
    ) {
        self.region = region
        self.memory = memory
        self.scalarType = scalarType
        self.shape = shape
        self.local = local
    }

    /// All of a tensor to memory of its own.
    package init(whole shape: Shape, of scalarType: ScalarType, memory: UnsafeMutableRawBufferPointer) {
        self.init(
            region: Region(whole: shape), memory: memory, scalarType: scalarType, shape: shape, local: Region(whole: shape))
    }

    /// What a part of the region gets, which lies inside.
    package func part(_ part: Region) throws(CairnError) -> ReadTarget {
        var target = self
        target.region = part
        target.local = try part.relative(to: region.offsets).shifted(by: local.offsets)
        return target
    }

    /// The part of the memory that the region goes to, if that is one run of whole bytes.
    package var straight: UnsafeMutableRawBufferPointer? {
        var runs = RegionRuns(of: local, in: shape)
        guard runs.count == 1, let first = runs.next(), first * scalarType.bitWidth % 8 == 0,
            let begin = scalarType.byteCount(elementCount: first),
            let count = scalarType.byteCount(elementCount: local.elementCount), begin + count <= memory.count
        else { return nil }
        return UnsafeMutableRawBufferPointer(rebasing: memory[begin..<begin + count])
    }
}
