public import CairnBase
public import CairnTensor

/// A tensor of the whole state and how it lies on the mesh. Every rank knows all of them.
public struct PlacedTensor: Sendable, Hashable {
    /// The fully-qualified name.
    public let name: String
    /// The type of the elements.
    public let scalarType: ScalarType
    /// The shape of the whole tensor, without padding.
    public let shape: Shape
    /// How it lies on the mesh.
    public let layout: Layout

    public init(name: String, scalarType: ScalarType, shape: Shape, layout: Layout) {
        self.name = name
        self.scalarType = scalarType
        self.shape = shape
        self.layout = layout
    }

    /// The layout applied to the shape.
    ///
    /// - Throws: As ``ShardedShape/init(_:shape:)``, naming the tensor.
    public func sharded() throws(CairnError) -> ShardedShape {
        do {
            return try ShardedShape(layout, shape: shape)
        } catch {
            throw error.adding(.init(tensor: name))
        }
    }
}

extension PlacedTensor: CustomStringConvertible {
    /// `model.embedding BF16 [50257, 768] on dp=2,tp=4: tp: shard 0`
    public var description: String { "\(name) \(scalarType) \(shape) on \(layout.mesh): \(layout)" }
}
