public import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A Swift number that is the element of a tensor type.
public protocol TensorScalar: BitwiseCopyable, Sendable {
    /// The tensor type whose elements have this memory layout.
    static var scalarType: ScalarType { get }
}

extension Int8: TensorScalar { public static var scalarType: ScalarType { .i8 } }
extension Int16: TensorScalar { public static var scalarType: ScalarType { .i16 } }
extension Int32: TensorScalar { public static var scalarType: ScalarType { .i32 } }
extension Int64: TensorScalar { public static var scalarType: ScalarType { .i64 } }
extension UInt8: TensorScalar { public static var scalarType: ScalarType { .u8 } }
extension UInt16: TensorScalar { public static var scalarType: ScalarType { .u16 } }
extension UInt32: TensorScalar { public static var scalarType: ScalarType { .u32 } }
extension UInt64: TensorScalar { public static var scalarType: ScalarType { .u64 } }
extension Float: TensorScalar { public static var scalarType: ScalarType { .f32 } }
extension Double: TensorScalar { public static var scalarType: ScalarType { .f64 } }
#if !(os(macOS) && arch(x86_64))
extension Float16: TensorScalar { public static var scalarType: ScalarType { .f16 } }
#endif

extension Tensor {
    /// A tensor of `elements` in row-major order.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when there are more or fewer elements than the shape has.
    package init<Element: TensorScalar>(_ elements: [Element], _ shape: Shape) throws(CairnError) {
        guard elements.count == shape.elementCount else {
            throw CairnError(
                .mismatch, "the elements do not fit the shape",
                .init(expected: "\(shape.elementCount) for \(shape)", found: "\(elements.count)"))
        }
        let storage = try Self.memory(Element.scalarType, shape, pool: nil)
        elements.withUnsafeBytes { source in
            if let start = source.baseAddress { storage.base.copyMemory(from: start, byteCount: source.count) }
        }
        self.init(
            storage: storage, byteOffset: 0, Element.scalarType, shape, byteCount: storage.byteCount)
    }

    /// A tensor of `elements` in row-major order: `try Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])`.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when there are more or fewer elements than the shape has.
    public init<Element: TensorScalar>(_ elements: [Element], shape: Shape) throws(CairnError) {
        try self.init(elements, shape)
    }

    /// A tensor of a vector's elements.
    public init<Element: TensorScalar>(_ elements: [Element]) {
        let storage = TensorStorage(byteCount: elements.count * MemoryLayout<Element>.stride, pool: nil)
        elements.withUnsafeBytes { source in
            if let start = source.baseAddress { storage.base.copyMemory(from: start, byteCount: source.count) }
        }
        self.init(
            storage: storage, byteOffset: 0, Element.scalarType, [elements.count], byteCount: storage.byteCount)
    }

    /// A copy of the elements, row-major.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the tensor has elements of another type.
    public func elements<Element: TensorScalar>(as type: Element.Type) throws(CairnError) -> [Element] {
        guard scalarType == Element.scalarType else {
            throw CairnError(
                .mismatch, "the tensor has elements of another type",
                .init(expected: "\(Element.scalarType)", found: "\(scalarType)"))
        }
        return [Element](unsafeUninitializedCapacity: shape.elementCount) { buffer, count in
            UnsafeMutableRawBufferPointer(buffer).copyMemory(
                from: UnsafeRawBufferPointer(start: storage.base + byteOffset, count: byteCount))
            count = shape.elementCount
        }
    }

    /// A copy of the elements, row-major, each converted to the type that is asked for: 16-bit floats of a checkpoint as
    /// `[Float]`, for instance.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for packed and complex types.
    public func elements<Element: TensorScalar>(convertedTo type: Element.Type) throws -> [Element] {
        try converted(to: Element.scalarType).elements(as: type)
    }

    /// Copies the elements, row-major, into memory of the caller's.
    ///
    /// ```swift
    /// var weights = [Float](repeating: 0, count: tensor.shape.elementCount)
    /// var span = weights.mutableSpan
    /// try tensor.copyElements(into: &span)
    /// ```
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the tensor has elements of another type, or another number of them.
    public func copyElements<Element: TensorScalar>(into destination: inout MutableSpan<Element>) throws(CairnError) {
        guard scalarType == Element.scalarType, shape.elementCount == destination.count else {
            throw CairnError(
                .mismatch, "the tensor's elements do not fit the memory",
                .init(
                    expected: "\(scalarType)\(shape), \(shape.elementCount) elements",
                    found: "\(destination.count) elements of \(Element.scalarType)"))
        }
        destination.withUnsafeMutableBytes {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: storage.base + byteOffset, count: byteCount))
        }
    }

    /// The elements, row-major, without copying them: a view that lives as long as the tensor is not changed.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the tensor has elements of another type.
    @_lifetime(borrow self)
    public func span<Element: TensorScalar>(of type: Element.Type) throws(CairnError) -> Span<Element> {
        guard scalarType == Element.scalarType else {
            throw CairnError(
                .mismatch, "the tensor has elements of another type",
                .init(expected: "\(Element.scalarType)", found: "\(scalarType)"))
        }
        let start = (storage.base + byteOffset).assumingMemoryBound(to: Element.self)
        return Span(start, count: shape.elementCount, borrowing: self)
    }

    /// The elements without copying. The type must be the tensor's own.
    package func withElements<Element: TensorScalar, Result>(
        as type: Element.Type, _ body: (UnsafeBufferPointer<Element>) throws -> Result
    ) rethrows -> Result {
        precondition(scalarType == Element.scalarType, "elements of \(scalarType) read as \(Element.scalarType)")
        defer { withExtendedLifetime(storage) {} }
        let start = (storage.base + byteOffset).assumingMemoryBound(to: Element.self)
        return try body(UnsafeBufferPointer(start: start, count: shape.elementCount))
    }

    /// The elements for writing; copies them first when they are shared. The type must be the tensor's own.
    package mutating func withMutableElements<Element: TensorScalar, Result>(
        as type: Element.Type, _ body: (UnsafeMutableBufferPointer<Element>) throws -> Result
    ) rethrows -> Result {
        precondition(scalarType == Element.scalarType, "elements of \(scalarType) written as \(Element.scalarType)")
        var span = mutableBytes
        return try span.withUnsafeMutableBytes { bytes in
            try body(bytes.assumingMemoryBound(to: Element.self))
        }
    }
}

extension Tensor {
    /// The elements of `region`, under the shape of the region: the same bytes where they are contiguous and begin at a
    /// whole byte, else a copy.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the region lies outside, ``CairnError/Code/unsupported`` when packed
    ///   elements would begin or end inside a byte.
    public func slice(_ region: Region, pool: BufferPool? = nil) throws -> Tensor {
        try region.check(inside: shape)
        var runs = RegionRuns(of: region, in: shape)
        let bits = scalarType.bitWidth
        if runs.count == 1, let first = runs.next(), let count = scalarType.byteCount(elementCount: region.elementCount),
            first % 8 * bits % 8 == 0
        {
            return Tensor(
                storage: storage, byteOffset: byteOffset + first / 8 * bits + first % 8 * bits / 8, scalarType,
                region.shape, byteCount: count)
        }
        return try copy(of: region, pool: pool)
    }
}

extension UnsafeRawBufferPointer {
    /// Whether both hold the same bytes; one `memcmp`.
    package func elementsEqualAsMemory(_ other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let first = baseAddress, let second = other.baseAddress else { return true }
        return memcmp(first, second, count) == 0
    }
}
