import CairnBase

/// A literal of Python, as the header of a NumPy file is one: read as data, never evaluated.
indirect enum PythonLiteral: Equatable {
    case none
    case bool(Bool)
    case integer(Int)
    case string(String)
    case tuple([PythonLiteral])
    case list([PythonLiteral])
    case dictionary([(key: String, value: PythonLiteral)])

    static func == (left: PythonLiteral, right: PythonLiteral) -> Bool {
        switch (left, right) {
        case (.none, .none): true
        case (.bool(let first), .bool(let second)): first == second
        case (.integer(let first), .integer(let second)): first == second
        case (.string(let first), .string(let second)): first == second
        case (.tuple(let first), .tuple(let second)), (.list(let first), .list(let second)): first == second
        case (.dictionary(let first), .dictionary(let second)):
            first.count == second.count && zip(first, second).allSatisfy { $0.key == $1.key && $0.value == $1.value }
        default: false
        }
    }
}

/// Reads what `numpy.lib.format` writes: dictionaries with keys of text, tuples, lists, text, integers, True, False and
/// None. Nothing else of Python is understood.
struct PythonLiteralParser {
    private let bytes: [UInt8]
    private var position = 0

    private static let greatestDepth = 32

    /// Why a literal is refused and where.
    struct Refusal: Error {
        let reason: String
        let offset: Int
    }

    /// - Throws: A refusal for what is not such a literal or has something behind it.
    static func parse(_ bytes: [UInt8]) throws(Refusal) -> PythonLiteral {
        var parser = PythonLiteralParser(bytes: bytes)
        let literal = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.position == bytes.count else { throw parser.refusal("there is something behind the literal") }
        return literal
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private func refusal(_ reason: String) -> Refusal { Refusal(reason: reason, offset: position) }

    private mutating func skipSpace() {
        while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func value(depth: Int) throws(Refusal) -> PythonLiteral {
        guard depth < Self.greatestDepth else { throw refusal("the literal is nested too deeply") }
        skipSpace()
        guard position < bytes.count else { throw refusal("the literal ends too early") }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try dictionary(depth: depth)
        case UInt8(ascii: "("): return try elements(closedBy: ")", depth: depth)
        case UInt8(ascii: "["): return try elements(closedBy: "]", depth: depth)
        case UInt8(ascii: "'"), UInt8(ascii: "\""): return .string(try text())
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): return .integer(try integer())
        default:
            for (word, literal) in [("True", PythonLiteral.bool(true)), ("False", .bool(false)), ("None", .none)]
            where bytes[position...].starts(with: word.utf8) {
                position += word.utf8.count
                return literal
            }
            throw refusal("this is not a literal that a NumPy header may have")
        }
    }

    private mutating func dictionary(depth: Int) throws(Refusal) -> PythonLiteral {
        position += 1
        var members: [(key: String, value: PythonLiteral)] = []
        while !take("}") {
            guard case .string(let key) = try value(depth: depth + 1) else { throw refusal("a key is not text") }
            guard take(":") else { throw refusal("a key has no value") }
            guard !members.contains(where: { $0.key == key }) else { throw refusal("a key comes twice") }
            members.append((key, try value(depth: depth + 1)))
            guard !take(",") else { continue }
            guard take("}") else { throw refusal("a dictionary is not closed") }
            break
        }
        return .dictionary(members)
    }

    private mutating func elements(closedBy end: Unicode.Scalar, depth: Int) throws(Refusal) -> PythonLiteral {
        position += 1
        var elements: [PythonLiteral] = []
        var hasComma = false
        while !take(end) {
            elements.append(try value(depth: depth + 1))
            hasComma = take(",")
            guard !hasComma else { continue }
            guard take(end) else { throw refusal("a list is not closed") }
            break
        }
        guard end == ")" else { return .list(elements) }
        // What stands alone in parentheses is not a tuple.
        if elements.count == 1, !hasComma { return elements[0] }
        return .tuple(elements)
    }

    private mutating func integer() throws(Refusal) -> Int {
        let start = position
        if bytes[position] == UInt8(ascii: "-") { position += 1 }
        while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) {
            position += 1
        }
        guard let value = Int(String(decoding: bytes[start..<position], as: UTF8.self)) else {
            throw refusal("an integer is out of range")
        }
        // Python 2 wrote long integers so.
        if position < bytes.count, bytes[position] == UInt8(ascii: "L") { position += 1 }
        return value
    }

    private mutating func text() throws(Refusal) -> String {
        let quote = bytes[position]
        position += 1
        var content: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case quote:
                guard let text = String(validating: content, as: UTF8.self) else { throw refusal("text is not UTF-8") }
                return text
            case UInt8(ascii: "\\"): content += try escape()
            case 0x00...0x1F: throw refusal("text has a control character in it")
            default: content.append(byte)
            }
        }
        throw refusal("text is not closed")
    }

    private mutating func escape() throws(Refusal) -> [UInt8] {
        guard position < bytes.count else { throw refusal("text is not closed") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): return [byte]
        case UInt8(ascii: "n"): return [0x0A]
        case UInt8(ascii: "r"): return [0x0D]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "x"): return try scalar(digits: 2)
        case UInt8(ascii: "u"): return try scalar(digits: 4)
        case UInt8(ascii: "U"): return try scalar(digits: 8)
        default: throw refusal("text has an unknown escape in it")
        }
    }

    private mutating func scalar(digits: Int) throws(Refusal) -> [UInt8] {
        guard position + digits <= bytes.count,
            let code = UInt32(String(decoding: bytes[position..<position + digits], as: UTF8.self), radix: 16),
            let scalar = Unicode.Scalar(code)
        else { throw refusal("text has an escape that is not a character") }
        position += digits
        return Array(String(Character(scalar)).utf8)
    }
}
