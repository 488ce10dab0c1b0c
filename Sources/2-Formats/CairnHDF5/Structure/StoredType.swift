import CairnBase

/// What elements are, as a header describes it. Source: HDF5 File Format Specification 3.0, IV.A.2.d.
///
/// Types are read here and not by HDF5: 1.10 refuses forms that 1.12 and 2.0 write, and believes too much of all.
indirect enum StoredType: Sendable {
    case integer(IntegerForm)
    case float(FloatForm)
    /// Text of a fixed size, padded as HDF5 numbers the ways.
    case text(byteCount: Int, padding: Int)
    case opaque(byteCount: Int)
    case record(byteCount: Int, members: [Member])
    case enumeration(IntegerForm, members: [(name: String, number: [UInt8])])
    case array(extents: [Int], element: StoredType)
    /// Text in a heap, which elements say the place of.
    case variableLengthString(byteCount: Int)
    /// Two numbers, as HDF5 2.0 has them.
    case complex(FloatForm)
    /// What is not understood, in words.
    case unknown(byteCount: Int, String)

    struct Member: Sendable {
        var name: String
        var offset: Int
        var type: StoredType
    }

    struct IntegerForm: Sendable, Equatable {
        var byteCount: Int
        var isBigEndian: Bool
        var isSigned: Bool
        /// The first bit that counts, and how many do.
        var firstBit: Int
        var bitCount: Int

        /// Whether all bits count.
        var isWhole: Bool { firstBit == 0 && bitCount == byteCount * 8 }
    }

    struct FloatForm: Sendable, Equatable {
        var byteCount: Int
        /// `nil` for an order that no machine of today has.
        var isBigEndian: Bool?
        var hasImpliedBit: Bool
        var sign: Int
        var firstBit: Int
        var bitCount: Int
        var exponent: Range<Int>
        var mantissa: Range<Int>
        var bias: Int
    }

    var byteCount: Int {
        switch self {
        case .integer(let form), .enumeration(let form, _): form.byteCount
        case .float(let form): form.byteCount
        case .complex(let form): 2 * form.byteCount
        case .array(let extents, let element):
            extents.reduce(element.byteCount) { $0.multiplied(checked: $1) ?? 0 }
        case .text(let byteCount, _), .opaque(let byteCount), .record(let byteCount, _), .variableLengthString(let byteCount),
            .unknown(let byteCount, _):
            byteCount
        }
    }

    private static let deepest = 16

    /// - Parameter content: What a message of a header says.
    /// - Throws: ``CairnError/Code/malformed`` for a type that contradicts itself.
    init(_ content: [UInt8], addressWidth: Int) throws(CairnError) {
        var reader = TypeReader(fields: ByteFields(content), addressWidth: addressWidth)
        self = try reader.type(depth: 0)
    }

    /// Reads types one behind the other.
    private struct TypeReader {
        let fields: ByteFields
        let addressWidth: Int
        var position = 0

        private func damaged() -> CairnError { CairnError(.malformed, "a type is damaged") }

        private mutating func take(_ width: Int) throws(CairnError) -> Int {
            guard let value = fields.integer(position, width) else { throw damaged() }
            position += width
            return value
        }

        private mutating func name(isPadded: Bool) throws(CairnError) -> String {
            guard position < fields.bytes.count, let end = fields.bytes[position...].firstIndex(of: 0) else {
                throw damaged()
            }
            let name = String(decoding: fields.bytes[position..<end], as: UTF8.self)
            position += isPadded ? (end + 1 - position).roundedUpToEight : end + 1 - position
            return name
        }

        mutating func type(depth: Int) throws(CairnError) -> StoredType {
            let head = try take(1)
            let flags = try take(3)
            let byteCount = try take(4)
            let (version, kind) = (head >> 4, head & 15)
            guard byteCount > 0, version > 0, depth < StoredType.deepest else { throw damaged() }
            guard version <= 5 else { throw CairnError(.unsupported, "a type of version \(version), of a newer HDF5") }
            switch kind {
            case 0, 4:
                let (first, count) = (try take(2), try take(2))
                guard first + count <= byteCount * 8, count > 0 else { throw damaged() }
                return .integer(
                    IntegerForm(
                        byteCount: byteCount, isBigEndian: flags & 1 != 0, isSigned: kind == 0 && flags & 8 != 0,
                        firstBit: first, bitCount: count))
            case 1: return .float(try float(flags, byteCount))
            case 2:
                _ = try take(2)
                return .unknown(byteCount: byteCount, "times")
            case 3: return .text(byteCount: byteCount, padding: flags & 15)
            case 5:
                position += (flags & 0xFF).roundedUpToEight
                return .opaque(byteCount: byteCount)
            case 6: return try record(flags, byteCount, version, depth)
            case 7: return .unknown(byteCount: byteCount, "references")
            case 8: return try enumeration(flags, version, depth)
            case 9:
                _ = try type(depth: depth + 1)
                guard flags & 15 == 1 else {
                    return .unknown(byteCount: byteCount, "sequences of any length")
                }
                guard byteCount == 8 + addressWidth else { throw damaged() }
                return .variableLengthString(byteCount: byteCount)
            case 10:
                let count = try take(1)
                if version < 3 { position += 3 }
                guard (1...32).contains(count) else { throw damaged() }
                var extents: [Int] = []
                for _ in 0..<count { extents.append(try take(4)) }
                // Version 2 has room for an order of the dimensions.
                if version < 3 { position += 4 * count }
                return try .array(extents: extents, element: type(depth: depth + 1)).checked(byteCount)
            case 11:
                guard case .float(let form) = try type(depth: depth + 1), flags & 1 == 1, 2 * form.byteCount == byteCount
                else { return .unknown(byteCount: byteCount, "complex numbers of another form than two numbers") }
                return .complex(form)
            default:
                // What follows cannot be known, so nothing around it can be either.
                throw CairnError(.unsupported, "a type of class \(kind), of a newer HDF5")
            }
        }

        private mutating func float(_ flags: Int, _ byteCount: Int) throws(CairnError) -> FloatForm {
            let (first, count) = (try take(2), try take(2))
            let (exponent, exponentCount) = (try take(1), try take(1))
            let (mantissa, mantissaCount) = (try take(1), try take(1))
            let bias = try take(4)
            return FloatForm(
                byteCount: byteCount, isBigEndian: flags & 0x41 == 0x41 ? nil : flags & 1 != 0,
                hasImpliedBit: flags >> 4 & 3 == 2, sign: flags >> 8 & 0xFF, firstBit: first, bitCount: count,
                exponent: exponent..<exponent + exponentCount, mantissa: mantissa..<mantissa + mantissaCount, bias: bias)
        }

        private mutating func record(
            _ flags: Int, _ byteCount: Int, _ version: Int, _ depth: Int
        ) throws(CairnError) -> StoredType {
            var width = 1
            while width < 4, byteCount >> (8 * width) != 0 { width += 1 }
            var members: [Member] = []
            for _ in 0..<flags & 0xFFFF {
                let name = try name(isPadded: version < 3)
                let offset = try take(version < 3 ? 4 : width)
                var extents: [Int] = []
                if version == 1 {
                    // Up to four dimensions behind the offset, and room for their order.
                    let count = try take(1)
                    position += 11
                    guard count <= 4 else { throw damaged() }
                    for index in 0..<4 {
                        let extent = try take(4)
                        if index < count { extents.append(extent) }
                    }
                }
                var type = try type(depth: depth + 1)
                if !extents.isEmpty { type = .array(extents: extents, element: type) }
                guard type.byteCount > 0, let end = offset.adding(checked: type.byteCount), end <= byteCount else {
                    throw damaged()
                }
                members.append(Member(name: name, offset: offset, type: type))
            }
            return .record(byteCount: byteCount, members: members)
        }

        private mutating func enumeration(
            _ flags: Int, _ version: Int, _ depth: Int
        ) throws(CairnError) -> StoredType {
            guard case .integer(let form) = try type(depth: depth + 1) else { throw damaged() }
            var names: [String] = []
            for _ in 0..<flags & 0xFFFF { names.append(try name(isPadded: version < 3)) }
            var members: [(name: String, number: [UInt8])] = []
            for name in names {
                guard position + form.byteCount <= fields.bytes.count else { throw damaged() }
                members.append((name, Array(fields.bytes[position..<position + form.byteCount])))
                position += form.byteCount
            }
            return .enumeration(form, members: members)
        }
    }

    private func checked(_ byteCount: Int) throws(CairnError) -> StoredType {
        guard self.byteCount == byteCount else { throw CairnError(.malformed, "the size of an array's type is wrong") }
        return self
    }

    /// Whether the elements are, or have inside, what only HDF5 can follow or what is not understood; why.
    var refusal: String? {
        switch self {
        case .unknown(_, let reason): reason
        case .array(_, let element): element.refusal
        case .record(_, let members): members.lazy.compactMap(\.type.refusal).first
        case .float(let form): form.scalarType == nil ? form.description : nil
        case .complex(let form): form.scalarType == nil ? "complex " + form.description : nil
        case .integer(let form): form.byteCount > 8 ? "\(form.byteCount)-byte integers" : nil
        default: nil
        }
    }

    /// Whether an element is not all in its own bytes.
    var hasParts: Bool {
        switch self {
        case .variableLengthString, .unknown: true
        case .array(_, let element): element.hasParts
        case .record(_, let members): members.contains { $0.type.hasParts }
        default: false
        }
    }

    /// How many numbers and texts an element is.
    var leafCount: Int {
        switch self {
        case .array(let extents, let element):
            extents.reduce(element.leafCount) { $0.multiplied(checked: $1) ?? .max }
        case .record(_, let members): members.reduce(0) { $0.adding(checked: $1.type.leafCount) ?? .max }
        default: 1
        }
    }
}

extension Int {
    var roundedUpToEight: Int { (self + 7) / 8 * 8 }
}
