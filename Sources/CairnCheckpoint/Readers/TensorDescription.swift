import CairnBase
public import CairnTensor

/// What a checkpoint says of one logical tensor, known without reading its data.
public struct TensorDescription: Sendable, Hashable {
    /// The fully-qualified name.
    public var name: String
    /// The type of the elements.
    public var scalarType: ScalarType
    /// The shape of the whole tensor, unsharded.
    public var shape: Shape
    /// The name whose bytes this tensor shares, when the checkpoint stores the two once.
    public var tiedTo: String?

    public init(name: String, scalarType: ScalarType, shape: Shape, tiedTo: String? = nil) {
        self.name = name
        self.scalarType = scalarType
        self.shape = shape
        self.tiedTo = tiedTo
    }

    /// The bytes of the whole tensor. Readers list only tensors whose size is representable.
    public var byteCount: Int { scalarType.byteCount(elementCount: shape.elementCount) ?? 0 }
}

extension [TensorDescription] {
    /// Where the tensor of this name is in a list that is sorted by the bytes of the names.
    package func position(of name: String) -> Int? {
        let wanted = ExactString(name)
        var low = 0, high = count
        while low < high {
            let middle = (low + high) / 2
            if ExactString(self[middle].name) < wanted { low = middle + 1 } else { high = middle }
        }
        return low < count && ExactString(self[low].name) == wanted ? low : nil
    }
}
