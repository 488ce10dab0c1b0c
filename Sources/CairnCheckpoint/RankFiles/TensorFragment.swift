public import CairnBase
public import CairnTensor

/// The piece of a tensor that one rank holds.
public struct TensorFragment: Sendable {
    /// The fully-qualified name of the whole tensor.
    public let name: String
    /// The shape of the whole tensor.
    public let globalShape: Shape
    /// The part of it that this is.
    public let region: Region
    /// The elements: its shape is the region's.
    public let tensor: Tensor

    /// - Throws: ``CairnError/Code/mismatch`` when the region lies outside the tensor or has another shape than `tensor`.
    public init(name: String, globalShape: Shape, region: Region, tensor: Tensor) throws(CairnError) {
        guard region.isInside(globalShape), region.shape == tensor.shape else {
            throw CairnError(
                .mismatch, "a fragment does not fit its tensor",
                .init(tensor: name, expected: "\(region) inside \(globalShape)", found: "\(tensor)"))
        }
        self.name = name
        self.globalShape = globalShape
        self.region = region
        self.tensor = tensor
    }

    /// A whole tensor as its only fragment.
    public init(whole tensor: Tensor, name: String) {
        self.name = name
        self.globalShape = tensor.shape
        self.region = Region(whole: tensor.shape)
        self.tensor = tensor
    }
}
