import CairnBase
import CairnTensor

/// The ways in which NumPy pickles arrays and numbers. Source: `numpy/_core` of NumPy 2.4.
enum PickledArray {
    /// A type of elements.
    private enum ElementType {
        case scalar(ScalarType, isBigEndian: Bool)
        /// UCS-4 text of so many characters.
        case text(characters: Int, isBigEndian: Bool)
        case object
    }

    /// `nil` for what is not data of NumPy.
    static func leaf(_ object: PickleGraph.Object, in graph: PickleGraph) throws(CairnError) -> PickledLeaf? {
        switch object.constructor.name {
        case "scalar":
            guard object.arguments.count == 2, let type = elementType(object.arguments[0], in: graph),
                let bytes = PickledLeaf.bytes(object.arguments[1], in: graph)
            else { return nil }
            return try array(type, [], bytes, isColumnMajor: false).flatMap { number($0) }
        case "_reconstruct":
            // The state: version, shape, type, whether it is column-major, elements.
            guard let state = object.state.flatMap({ graph.sequence($0) }), state.count == 5,
                let extents = graph.integers(state[1]), let type = elementType(state[2], in: graph)
            else { return nil }
            if case .object = type { return graph.sequence(state[4]).map { .sequence($0) } }
            guard let bytes = PickledLeaf.bytes(state[4], in: graph) else { return nil }
            guard case .bool(let isColumnMajor) = graph[state[3]] else { return nil }
            return try array(type, extents, bytes, isColumnMajor: isColumnMajor)
        case "_frombuffer":
            guard object.arguments.count == 4, let bytes = PickledLeaf.bytes(object.arguments[0], in: graph),
                let type = elementType(object.arguments[1], in: graph),
                let extents = graph.integers(object.arguments[2]), let order = graph.string(object.arguments[3])
            else { return nil }
            return try array(type, extents, bytes, isColumnMajor: order == "F")
        case "dtype":
            return object.arguments.first.flatMap { graph.string($0) }.map { .value(.string("numpy.dtype(\($0))")) }
        default: return nil
        }
    }

    private static func elementType(_ reference: PickleGraph.Reference, in graph: PickleGraph) -> ElementType? {
        guard let object = graph.object(reference), object.constructor.path == "numpy.dtype",
            let code = object.arguments.first.flatMap({ graph.string($0) })
        else { return nil }
        let state = object.state.flatMap { graph.sequence($0) } ?? []
        let isBigEndian = state.count > 1 && graph.string(state[1]) == ">"
        switch code {
        case "O8", "O": return .object
        case "f8": return .scalar(.f64, isBigEndian: isBigEndian)
        case "f4": return .scalar(.f32, isBigEndian: isBigEndian)
        case "f2": return .scalar(.f16, isBigEndian: isBigEndian)
        case "i8": return .scalar(.i64, isBigEndian: isBigEndian)
        case "i4": return .scalar(.i32, isBigEndian: isBigEndian)
        case "i2": return .scalar(.i16, isBigEndian: isBigEndian)
        case "i1": return .scalar(.i8, isBigEndian: false)
        case "u8": return .scalar(.u64, isBigEndian: isBigEndian)
        case "u4": return .scalar(.u32, isBigEndian: isBigEndian)
        case "u2": return .scalar(.u16, isBigEndian: isBigEndian)
        case "u1": return .scalar(.u8, isBigEndian: false)
        case "b1": return .scalar(.bool, isBigEndian: false)
        case "c8": return .scalar(.c64, isBigEndian: isBigEndian)
        case "c16": return .scalar(.c128, isBigEndian: isBigEndian)
        default:
            guard code.utf8.first == UInt8(ascii: "U"), let characters = Int(code.dropFirst()), characters >= 0,
                characters < 1 << 24
            else { return nil }
            return .text(characters: characters, isBigEndian: isBigEndian)
        }
    }

    private static func array(
        _ type: ElementType, _ extents: [Int], _ bytes: [UInt8], isColumnMajor: Bool
    ) throws(CairnError) -> PickledLeaf? {
        let shape = try Shape(checking: extents)
        switch type {
        case .object: return nil
        case .text(let characters, let isBigEndian):
            guard shape.elementCount.multiplied(checked: characters * 4) == bytes.count else { throw wrongSize(bytes) }
            let texts = (0..<shape.elementCount).map { index in
                text(bytes[(index * characters * 4)..<((index + 1) * characters * 4)], isBigEndian: isBigEndian)
            }
            return .value(extents.isEmpty ? .string(texts.first ?? "") : .list(texts.map { .string($0) }))
        case .scalar(let scalarType, let isBigEndian):
            let width = scalarType.byteWidth ?? 1
            guard scalarType.byteCount(elementCount: shape.elementCount) == bytes.count else { throw wrongSize(bytes) }
            var ordered = bytes
            if isBigEndian { reverse(&ordered, width: scalarType.isComplex ? width / 2 : width) }
            if isColumnMajor { ordered = rowMajor(ordered, extents, width: width) }
            return .held(try Tensor(scalarType, shape, copying: ordered.span.bytes))
        }
    }

    private static func wrongSize(_ bytes: [UInt8]) -> CairnError {
        CairnError(.malformed, "a NumPy array has another size than its shape", .init(found: "\(bytes.count) bytes"))
    }

    private static func reverse(_ bytes: inout [UInt8], width: Int) {
        for begin in stride(from: 0, to: bytes.count, by: width) { bytes[begin..<begin + width].reverse() }
    }

    private static func rowMajor(_ bytes: [UInt8], _ extents: [Int], width: Int) -> [UInt8] {
        var strides = [Int](repeating: 1, count: extents.count)
        for index in extents.indices.dropFirst() { strides[index] = strides[index - 1] * extents[index - 1] }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        for element in 0..<bytes.count / width {
            var (rest, position) = (element, 0)
            for index in extents.indices.reversed() {
                position += rest % extents[index] * strides[index]
                rest /= extents[index]
            }
            result += bytes[(position * width)..<((position + 1) * width)]
        }
        return result
    }

    private static func text(_ bytes: ArraySlice<UInt8>, isBigEndian: Bool) -> String {
        var scalars = String.UnicodeScalarView()
        let base = bytes.startIndex
        for begin in stride(from: base, to: bytes.endIndex, by: 4) {
            let four = bytes[begin..<begin + 4]
            let code = (isBigEndian ? Array(four) : four.reversed()).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            if code == 0 { break }
            scalars.append(Unicode.Scalar(code) ?? "\u{FFFD}")
        }
        return String(scalars)
    }

    /// A NumPy number as a value.
    private static func number(_ leaf: PickledLeaf) -> PickledLeaf? {
        guard case .held(let tensor) = leaf else { return leaf }
        let bytes = tensor.bytes.withUnsafeBytes { Array($0) }
        return NumPyNumber.value(tensor.scalarType, bytes).map { .value($0) } ?? leaf
    }
}
