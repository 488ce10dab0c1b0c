import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What one `.npy` file holds.
enum NumPyArray {
    case tensor(any TensorView, note: String?)
    case value(Value)
    /// What an array of Python objects holds: its pickle, as data.
    case objects(PickledState)
    /// Why it is left out.
    case skipped(String)

    /// The most bytes of text or of a pickle that are made values.
    private static let greatestValue = 64 << 20

    /// - Parameter declared: The type of void elements, where something outside of the file says it.
    /// - Throws: ``CairnError/Code/incomplete`` when the file is shorter than its array,
    ///   ``CairnError/Code/malformed`` for a header that is damaged.
    init(_ file: any StorageFile, declared: ScalarType? = nil) throws(CairnError) {
        let header = try NumPyHeader(of: file)
        var type = header.type
        var note: String?
        if case .void(let size, let isForeign) = type {
            if let declared, declared.byteWidth == size {
                type = .numbers(declared, swapped: nil, inner: [])
            } else if isForeign, size == 2 {
                // `<V2` is ml_dtypes' bfloat16: no other type that packages add to NumPy is spelt so.
                type = .numbers(.bf16, swapped: nil, inner: [])
                note = "says its elements are '<V2', which is taken for the bfloat16 of ml_dtypes"
            } else {
                type = .numbers(.u8, swapped: nil, inner: [size])
                note = "has elements of \(size) bytes and nothing says what they are: they are delivered as bytes"
            }
        }
        switch type {
        case .numbers(let scalarType, let swapped, let inner):
            self = .tensor(
                try Self.content(file, header, scalarType, inner: inner, swapped: swapped), note: note)
        case .text(let characters, let isBigEndian):
            let bytes = try Self.bytes(file, header, width: characters.multiplied(checked: 4))
            self = try Self.values(header, bytes, width: characters * 4) {
                Self.text($0, isBigEndian: isBigEndian)
            }
        case .bytes(let size):
            let bytes = try Self.bytes(file, header, width: size)
            self = try Self.values(header, bytes, width: size) { element in
                var element = Array(element)
                while element.last == 0 { element.removeLast() }
                return .bytes(element)
            }
        case .objects: self = try Self.objects(file, header)
        case .void: self = .skipped("it holds elements of no known type")
        case .other(let reason): self = .skipped("it holds \(reason)")
        }
    }

    private static func content(
        _ file: any StorageFile, _ header: NumPyHeader, _ scalarType: ScalarType, inner: [Int], swapped: Int?
    ) throws(CairnError) -> any TensorView {
        let shape = try Shape(checking: header.extents + inner)
        try check(file, header, byteCount: scalarType.byteCount(elementCount: shape.elementCount))
        let outer = try Shape(checking: header.extents)
        var content: any TensorView
        if header.isColumnMajor, outer.dimensionCount > 1, let width = scalarType.byteWidth {
            // The dimensions of an element are row-major all the same and change fastest.
            let within = inner.reduce(1, *)
            var strides: [Int] = []
            var stride = within
            for extent in header.extents {
                strides.append(stride)
                stride *= max(1, extent)
            }
            guard header.dataOffset % width == 0 else {
                throw CairnError(
                    .malformed, "the elements of the .npy file are not aligned",
                    .init(file: file.key, offset: header.dataOffset))
            }
            content = StridedTensor(
                file: file, scalarType: scalarType, width: width, shape: shape,
                strides: strides + Shape(inner).strides, offset: header.dataOffset / width)
        } else {
            content = FileTensor(file: file, byteOffset: header.dataOffset, scalarType: scalarType, shape: shape)
        }
        if let swapped { content = ByteSwappedView(content, width: swapped) }
        return content
    }

    /// Throws unless the file is as long as its array.
    private static func check(_ file: any StorageFile, _ header: NumPyHeader, byteCount: Int?) throws(CairnError) {
        guard let byteCount, let end = header.dataOffset.adding(checked: byteCount) else {
            throw CairnError(
                .malformed, "the size of the .npy file is out of range",
                .init(file: file.key, found: "\(header.extents)"))
        }
        guard end <= file.byteCount else {
            throw CairnError(
                .incomplete, "the .npy file is shorter than its array",
                .init(file: file.key, expected: "\(end) bytes", found: "\(file.byteCount)"))
        }
    }

    private static func objects(_ file: any StorageFile, _ header: NumPyHeader) throws(CairnError) -> NumPyArray {
        var limits = PickleLimits()
        limits.byteCount = greatestValue
        guard file.byteCount - header.dataOffset <= limits.byteCount else {
            return .skipped("it holds Python objects in a pickle larger than \(greatestValue >> 20) MiB")
        }
        let bytes = try file.bytes(in: header.dataOffset..<file.byteCount)
        do throws(CairnError) {
            let graph = try PickleInterpreter.read(
                bytes, file: file.key, fileOffset: header.dataOffset, limits: limits)
            return .objects(try PickledState(graph, file: file.key))
        } catch {
            // Arrays beside it are no worse for that.
            return .skipped("it holds Python objects, and their pickle is refused: \(error)")
        }
    }

    // MARK: Values

    private static func bytes(
        _ file: any StorageFile, _ header: NumPyHeader, width: Int?
    ) throws(CairnError) -> [UInt8]? {
        let count = try Shape(checking: header.extents).elementCount
        let byteCount = width?.multiplied(checked: count)
        try check(file, header, byteCount: byteCount)
        guard let byteCount, byteCount <= greatestValue, count <= 1 << 20 else { return nil }
        return try file.bytes(in: header.dataOffset..<header.dataOffset + byteCount)
    }

    private static func values(
        _ header: NumPyHeader, _ bytes: [UInt8]?, width: Int, _ element: (ArraySlice<UInt8>) -> Value
    ) throws(CairnError) -> NumPyArray {
        guard let bytes else { return .skipped("it holds more text than a value may have") }
        let shape = try Shape(checking: header.extents)
        var strides = shape.strides
        if header.isColumnMajor {
            var stride = 1
            for index in header.extents.indices {
                strides[index] = stride
                stride *= max(1, header.extents[index])
            }
        }
        func list(_ dimension: Int, _ start: Int) -> Value {
            guard dimension < header.extents.count else {
                return element(bytes[start * width..<(start + 1) * width])
            }
            return .list((0..<header.extents[dimension]).map { list(dimension + 1, start + $0 * strides[dimension]) })
        }
        // Without elements there could still be very many dimensions of extent one beside an empty one.
        return .value(shape.elementCount == 0 ? .list([]) : list(0, 0))
    }

    private static func text(_ bytes: ArraySlice<UInt8>, isBigEndian: Bool) -> Value {
        var scalars = String.UnicodeScalarView()
        for begin in stride(from: bytes.startIndex, to: bytes.endIndex, by: 4) {
            let four = bytes[begin..<begin + 4]
            let code = (isBigEndian ? Array(four) : four.reversed()).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            scalars.append(Unicode.Scalar(code) ?? "\u{FFFD}")
        }
        while scalars.last == "\0" { scalars.removeLast() }
        return .string(String(scalars))
    }
}

/// A number of NumPy as a value.
enum NumPyNumber {
    /// The value of one element, `nil` for half and complex numbers, which stay tensors without dimensions.
    ///
    /// - Parameter bytes: The element, little-endian.
    static func value(_ scalarType: ScalarType, _ bytes: some Collection<UInt8>) -> Value? {
        let bits = Array(bytes).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        switch scalarType {
        case .bool: return .bool(bits != 0)
        case .i8: return .integer(Int64(Int8(truncatingIfNeeded: bits)))
        case .i16: return .integer(Int64(Int16(truncatingIfNeeded: bits)))
        case .i32: return .integer(Int64(Int32(truncatingIfNeeded: bits)))
        case .i64: return .integer(Int64(bitPattern: bits))
        case .u8, .u16, .u32, .u64: return Int64(exactly: bits).map { .integer($0) } ?? .unsigned(bits)
        case .f32: return .double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits))))
        case .f64: return .double(Double(bitPattern: bits))
        default: return nil
        }
    }
}
