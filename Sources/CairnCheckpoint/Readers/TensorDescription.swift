package import CairnBase
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

extension Sequence<TensorDescription> {
    /// The bytes of all of them; the greatest number where a checkpoint claims more, which it may before it is read.
    package var totalByteCount: Int { reduce(0) { $0.adding(clamped: $1.byteCount) } }

    /// The elements of all of them; the greatest number where a checkpoint claims more.
    package var totalElementCount: Int { reduce(0) { $0.adding(clamped: $1.shape.elementCount) } }
}

extension [TensorDescription] {
    /// Makes sure that every tensor that is tied to another one is tied to one that is written.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``.
    package func requireWrittenTies(in file: String) throws(CairnError) {
        let stored = Set(filter { $0.tiedTo == nil }.map { ExactString($0.name) })
        for tensor in self {
            guard let kept = tensor.tiedTo, !stored.contains(ExactString(kept)) else { continue }
            throw CairnError(
                .invalidArgument, "the tensor that this one is tied to is not written",
                .init(file: file, tensor: tensor.name, expected: kept))
        }
    }

    /// Where the tensor of this name is in a list that is sorted by the bytes of the names.
    package func position(of name: String) -> Int? {
        let wanted = ExactString(name)
        let position = firstPosition { !(ExactString($0.name) < wanted) }
        return position < count && ExactString(self[position].name) == wanted ? position : nil
    }

    /// Where the tensor of this name is, of a checkpoint that `source` names.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func requiredPosition(of name: String, in source: String) throws(CairnError) -> Int {
        guard let position = position(of: name) else {
            throw CairnError(.notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name))
        }
        return position
    }
}
