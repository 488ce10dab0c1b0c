import CairnBase
import CairnStorage
import CairnTensor

/// The header of a `.npy` file, versions 1.0 to 3.0. Source: `numpy/lib/_format_impl.py` of NumPy 2.4.
struct NumPyHeader {
    static let magic: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]

    /// The type of the elements.
    let type: NumPyType
    /// The shape.
    let extents: [Int]
    /// Whether the first index changes fastest.
    let isColumnMajor: Bool
    /// Where the elements begin, in bytes.
    let dataOffset: Int

    /// The most bytes of a header; NumPy itself takes 10,000 unless told to trust the file.
    private static let greatestByteCount = 1 << 20

    /// - Throws: ``CairnError/Code/malformed``, ``CairnError/Code/incomplete`` or ``CairnError/Code/unsupported`` for
    ///   another version.
    init(of file: any StorageFile) throws(CairnError) {
        func malformed(_ message: String, at offset: Int, _ found: String? = nil) -> CairnError {
            CairnError(.malformed, message, .init(file: file.key, offset: offset, found: found))
        }
        let start = ByteReader(bytes: try file.bytes(in: 0..<min(12, file.byteCount)))
        guard start.bytes.starts(with: Self.magic), let major = start.integer(at: 6, byteCount: 1),
            let minor = start.integer(at: 7, byteCount: 1)
        else { throw malformed("this is no .npy file", at: 0) }
        guard (1...3).contains(major), minor == 0 else {
            throw CairnError(
                .unsupported, "the .npy file has another version",
                .init(file: file.key, offset: 6, expected: "1.0, 2.0 or 3.0", found: "\(major).\(minor)"))
        }
        let begin = major == 1 ? 10 : 12
        guard let byteCount = major == 1 ? start.u16(at: 8) : start.u32(at: 8) else {
            throw CairnError(.incomplete, "the .npy file ends inside of its header", .init(file: file.key))
        }
        guard byteCount <= Self.greatestByteCount else {
            throw CairnError(
                .unsupported, "the header of the .npy file is too long",
                .init(
                    file: file.key, offset: 8, expected: "at most \(Self.greatestByteCount) bytes",
                    found: "\(byteCount)"))
        }
        guard begin + byteCount <= file.byteCount else {
            throw CairnError(
                .incomplete, "the .npy file ends inside of its header",
                .init(file: file.key, expected: "\(begin + byteCount) bytes", found: "\(file.byteCount)"))
        }
        dataOffset = begin + byteCount
        var text = try file.bytes(in: begin..<dataOffset)
        if major < 3 {
            // Latin-1 until version 3.0.
            text = text.flatMap { $0 < 0x80 ? [$0] : Array(String(Character(Unicode.Scalar($0))).utf8) }
        }
        let literal: PythonLiteral
        do throws(PythonLiteralParser.Refusal) {
            literal = try PythonLiteralParser.parse(text)
        } catch {
            throw malformed("the header of the .npy file is refused: \(error.reason)", at: begin + error.offset)
        }
        guard case .dictionary(let members) = literal,
            Set(members.map(\.key)) == ["descr", "fortran_order", "shape"],
            let description = members.first(where: { $0.key == "descr" })?.value,
            case .bool(let isColumnMajor)? = members.first(where: { $0.key == "fortran_order" })?.value,
            case .tuple(let shape)? = members.first(where: { $0.key == "shape" })?.value
        else {
            throw malformed(
                "the header of the .npy file has other keys or types than it must", at: begin,
                String(decoding: text.prefix(80), as: UTF8.self))
        }
        var extents: [Int] = []
        for extent in shape {
            guard case .integer(let extent) = extent, extent >= 0 else {
                throw malformed("the shape of the .npy file is not a shape", at: begin)
            }
            extents.append(extent)
        }
        guard extents.count <= 64 else { throw malformed("the .npy file has too many dimensions", at: begin) }
        self.isColumnMajor = isColumnMajor
        self.extents = extents
        type = NumPyType(description)
    }
}

/// The type of a NumPy array's elements.
enum NumPyType: Equatable {
    /// Numbers, of so many bytes in the other order if at all; `inner` are dimensions that every element has.
    case numbers(ScalarType, swapped: Int?, inner: [Int])
    /// UCS-4 text of so many characters.
    case text(characters: Int, isBigEndian: Bool)
    /// Byte strings of this length.
    case bytes(Int)
    /// Bytes without a meaning; `isForeign` when the type was not NumPy's own.
    case void(Int, isForeign: Bool)
    /// Python objects: a pickle.
    case objects
    /// What has no place among tensors and values, in words.
    case other(String)

    init(_ description: PythonLiteral) {
        switch description {
        case .string(let code): self.init(code: code)
        case .tuple(let parts):
            // An element that is an array of its own: (type, shape).
            guard parts.count == 2, case .numbers(let scalarType, let swapped, let inner) = NumPyType(parts[0]),
                let extents = Self.extents(parts[1])
            else {
                self = .other("elements of a nested type")
                return
            }
            self = .numbers(scalarType, swapped: swapped, inner: extents + inner)
        case .list(let fields):
            let names = fields.prefix(8).map { field in
                guard case .tuple(let parts) = field, case .string(let name)? = parts.first else { return "?" }
                return name
            }
            self = .other("records of \(names.joined(separator: ", "))\(fields.count > 8 ? ", …" : "")")
        default: self = .other("elements of no known type")
        }
    }

    private static func extents(_ literal: PythonLiteral) -> [Int]? {
        guard case .tuple(let parts) = literal else {
            if case .integer(let extent) = literal, extent >= 0 { return [extent] }
            return nil
        }
        var extents: [Int] = []
        for part in parts {
            guard case .integer(let extent) = part, extent >= 0 else { return nil }
            extents.append(extent)
        }
        return extents
    }

    private init(code: String) {
        guard let order = code.unicodeScalars.first, let kind = code.unicodeScalars.dropFirst().first else {
            self = .other("elements of the type '\(code)'")
            return
        }
        let digits = String(code.unicodeScalars.dropFirst(2))
        let isBigEndian = order == ">"
        if kind == "O", order == "|" {
            self = .objects
            return
        }
        guard "<>|=".unicodeScalars.contains(order), let size = Int(digits), size >= 0, size < 1 << 30 else {
            self = .other("elements of the type '\(code)'")
            return
        }
        switch (kind, size) {
        case ("U", _): self = .text(characters: size, isBigEndian: isBigEndian)
        case ("S", _), ("a", _): self = .bytes(size)
        // NumPy's own void has no byte order; what has one is the type of another package.
        case ("V", 1...): self = .void(size, isForeign: order != "|")
        default:
            guard let scalarType = Self.scalarType(kind, size) else {
                self = .other("elements of the type '\(code)'")
                return
            }
            let width = scalarType.isComplex ? size / 2 : size
            self = .numbers(scalarType, swapped: isBigEndian && width > 1 ? width : nil, inner: [])
        }
    }

    private static func scalarType(_ kind: Unicode.Scalar, _ size: Int) -> ScalarType? {
        switch (kind, size) {
        case ("b", 1): .bool
        case ("i", 1): .i8
        case ("i", 2): .i16
        case ("i", 4): .i32
        case ("i", 8): .i64
        case ("u", 1): .u8
        case ("u", 2): .u16
        case ("u", 4): .u32
        case ("u", 8): .u64
        case ("f", 2): .f16
        case ("f", 4): .f32
        case ("f", 8): .f64
        case ("c", 8): .c64
        case ("c", 16): .c128
        default: nil
        }
    }

    /// How NumPy spells a type; `nil` for those that it does not have.
    static func code(of scalarType: ScalarType) -> String? {
        switch scalarType {
        case .bool: "|b1"
        case .i8: "|i1"
        case .u8: "|u1"
        case .i16: "<i2"
        case .u16: "<u2"
        case .f16: "<f2"
        case .i32: "<i4"
        case .u32: "<u4"
        case .f32: "<f4"
        case .i64: "<i8"
        case .u64: "<u8"
        case .f64: "<f8"
        case .c64: "<c8"
        case .c128: "<c16"
        default: nil
        }
    }
}
