public import CairnBase

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
    public init<Element: TensorScalar>(_ elements: [Element], _ shape: Shape) throws(CairnError) {
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
