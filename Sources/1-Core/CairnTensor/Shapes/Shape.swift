public import CairnBase

/// The extents of a tensor, outermost first, row-major. The empty shape is a scalar's.
///
/// A shape's element count is known to fit in `Int`; one that doesn't cannot be made.
public struct Shape: Sendable, Hashable {
    /// The extents, outermost first; none is negative.
    public let extents: [Int]
    /// The product of the extents; 1 for a scalar.
    public let elementCount: Int

    /// Makes a shape from extents that are not trusted, such as those of a file.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when an extent is negative or the product does not fit.
    public init(checking extents: [Int]) throws(CairnError) {
        // A zero extent makes the product zero, but the others must still not overflow: tools multiply them in any order.
        var product = 1
        for extent in extents {
            guard extent >= 0 else {
                throw CairnError(.malformed, "a shape has a negative extent", .init(found: "\(extents)"))
            }
            guard let next = product.multiplied(checked: max(1, extent)) else {
                throw CairnError(.malformed, "a shape's element count overflows", .init(found: "\(extents)"))
            }
            product = next
        }
        self.extents = extents
        self.elementCount = extents.contains(0) ? 0 : product
    }

    /// Makes a shape from extents that the caller knows to be valid; traps otherwise. For data from outside use
    /// ``init(checking:)``.
    public init(_ extents: [Int]) {
        do {
            try self.init(checking: extents)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    /// The shape of a single number.
    public static let scalar = Shape([])

    /// The number of dimensions.
    public var dimensionCount: Int { extents.count }

    /// The extent of dimension `index`.
    public subscript(index: Int) -> Int { extents[index] }

    /// For each dimension the distance in elements between neighbours along it, row-major.
    package var strides: [Int] {
        var strides = [Int](repeating: 1, count: extents.count)
        var stride = 1
        for index in extents.indices.reversed() {
            strides[index] = stride
            stride *= max(1, extents[index])
        }
        return strides
    }
}

extension Shape: ExpressibleByArrayLiteral {
    public init(arrayLiteral elements: Int...) { self.init(elements) }
}

extension Shape: CustomStringConvertible {
    /// `[4096, 1024]`, as the extents are written.
    public var description: String { extents.description }
}
