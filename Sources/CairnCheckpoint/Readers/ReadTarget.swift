package import CairnTensor

/// A region of a stored tensor and the memory of a local tensor that it goes to.
///
/// `@unchecked Sendable`: the targets of one load are disjoint parts of tensors that only this load holds.
package struct ReadTarget: @unchecked Sendable {
    /// The part of the whole stored tensor.
    package var region: Region
    /// The bytes of the local tensor.
    package var memory: UnsafeMutableRawBufferPointer
    /// The type of the local tensor's elements; they are converted if the stored ones are of another.
    package var scalarType: ScalarType
    /// The shape of the local tensor.
    package var shape: Shape
    /// Where the region stands in the local tensor, with as many elements, in the same order.
    package var local: Region

    package init(
        region: Region, memory: UnsafeMutableRawBufferPointer, scalarType: ScalarType, shape: Shape, local: Region
    ) {
        self.region = region
        self.memory = memory
        self.scalarType = scalarType
        self.shape = shape
        self.local = local
    }
}
