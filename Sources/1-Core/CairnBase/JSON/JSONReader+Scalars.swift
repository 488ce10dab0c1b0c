extension JSONReader {
    /// Reads a string, its escapes resolved.
    package mutating func readString() throws(JSONError) -> String {
        try expect(.string)
        let literal = try scanString()
        if !literal.hasEscapes {
            return text(literal.content)
        }
        return try unescape(literal.content)
    }

    /// The bytes of a range as text.
    func text(_ range: Range<Int>) -> String {
        // A buffer of UInt8 is what String copies without going through a collection's generic code.
        bytes.extracting(range).withUnsafeBytes { raw in
            raw.withMemoryRebound(to: UInt8.self) { String(decoding: $0, as: UTF8.self) }
        }
    }

    /// Where a string's characters are, without the quotes.
    struct StringLiteral {
        var content: Range<Int>
        var hasEscapes: Bool
    }

    /// Checks a string from its opening quote, where the position is, and moves behind its closing quote.
    mutating func scanString() throws(JSONError) -> StringLiteral {
        let start = position + 1
        var hasEscapes = false
        position = start
        while true {
            skipPlainCharacters()
            switch nextByte {
            case nil:
                throw error("the string that begins at offset \(start - 1) does not end")
            case UInt8(ascii: "\""):
                position += 1
                return StringLiteral(content: start..<position - 1, hasEscapes: hasEscapes)
            case UInt8(ascii: "\\"):
                hasEscapes = true
                _ = try readEscape()
            case .some(0..<0x20):
                throw unexpected("an escape instead of a control character in a string")
            default:
                try skipMultibyteCharacter()
            }
        }
    }

    /// Passes over ASCII characters other than quotes, backslashes and control characters, eight at a time.
    private mutating func skipPlainCharacters() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highBits = ones << 7
        while bytes.byteCount - position >= 8 {
            let loaded = bytes.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self)
            let word = UInt64(littleEndian: loaded)
            let quotes = word ^ (ones &* 0x22)
            let backslashes = word ^ (ones &* 0x5c)
            // A borrow can mark a byte above a marked one by mistake, so only the lowest mark is used.
            let marks =
                ((word &- ones &* 0x20) & ~word | (quotes &- ones) & ~quotes
                    | (backslashes &- ones) & ~backslashes | word) & highBits
            if marks != 0 {
                position += marks.trailingZeroBitCount / 8
                return
            }
            position += 8
        }
        while let byte = nextByte, byte >= 0x20, byte < 0x80, byte != 0x22, byte != 0x5c { position += 1 }
    }

    /// Passes over one character of two to four bytes (Unicode 16, table 3-7: well-formed UTF-8).
    private mutating func skipMultibyteCharacter() throws(JSONError) {
        let lead = byte(at: position)
        var second: ClosedRange<UInt8> = 0x80...0xbf
        let length: Int
        switch lead {
        case 0xc2...0xdf: length = 2
        case 0xe0: (length, second) = (3, 0xa0...0xbf)  // shorter forms exist below
        case 0xed: (length, second) = (3, 0x80...0x9f)  // surrogates above
        case 0xe1...0xef: length = 3
        case 0xf0: (length, second) = (4, 0x90...0xbf)  // shorter forms exist below
        case 0xf4: (length, second) = (4, 0x80...0x8f)  // beyond U+10FFFF above
        case 0xf1...0xf3: length = 4
        default: throw error("invalid UTF-8 in a string")
        }
        guard bytes.byteCount - position >= length, second.contains(byte(at: position + 1)) else {
            throw error("invalid UTF-8 in a string")
        }
        for index in 2..<max(length, 2) where byte(at: position + index) & 0xc0 != 0x80 {
            throw error("invalid UTF-8 in a string")
        }
        position += length
    }

    /// Reads an escape, or the two escapes of a surrogate pair, from its backslash on.
    private mutating func readEscape() throws(JSONError) -> Unicode.Scalar {
        let start = position
        position += 1
        let letter = nextByte
        position = min(position + 1, bytes.byteCount)
        switch letter {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        default: throw JSONError(offset: start, "unknown escape in a string")
        }
        let unit = try readFourHexDigits()
        if let scalar = Unicode.Scalar(unit) { return scalar }
        if unit < 0xdc00, nextByte == UInt8(ascii: "\\") {
            position += 1
            if nextByte == UInt8(ascii: "u") {
                position += 1
                let low = try readFourHexDigits()
                let pair = 0x10000 + (unit & 0x3ff) << 10 + low & 0x3ff
                if (0xdc00...0xdfff).contains(low), let scalar = Unicode.Scalar(pair) { return scalar }
            }
        }
        throw JSONError(offset: start, "half of a surrogate pair in a string")
    }

    private mutating func readFourHexDigits() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = nextByte, let digit = Hexadecimal.value(ofDigit: byte) else {
                throw unexpected("four hexadecimal digits after \\u")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    /// Resolves the escapes in `content`, which has been checked. The position is left behind the closing quote.
    private mutating func unescape(_ content: Range<Int>) throws(JSONError) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(content.count)
        position = content.lowerBound
        while position < content.upperBound {
            let next = byte(at: position)
            if next == UInt8(ascii: "\\") {
                text.append(contentsOf: UTF8.encode(try readEscape()) ?? UTF8.EncodedScalar())
            } else {
                text.append(next)
                position += 1
            }
        }
        position += 1
        return String(decoding: text, as: UTF8.self)
    }
}

extension JSONReader {
    /// Reads a number, exactly if it is written as an integer.
    ///
    /// - Throws: For integers outside `Int64.min...UInt64.max`, and for numbers too large for a double.
    package mutating func readNumber() throws(JSONError) -> JSONNumber {
        try expect(.number)
        let literal = try scanNumber()
        guard literal.isInteger else { return .double(try double(literal)) }
        if let value = literal.int64 { return .integer(value) }
        if let value = literal.uint64 { return .unsigned(value) }
        throw outOfRange(literal)
    }

    /// Reads an integer. `1.0` and `1e3` are not integers.
    package mutating func readInteger() throws(JSONError) -> Int {
        let literal = try readIntegerLiteral()
        guard let value = literal.int64, let integer = Int(exactly: value) else { throw outOfRange(literal) }
        return integer
    }

    /// A number as written, with its value if it is an integer.
    struct NumberLiteral {
        var range: Range<Int>
        var isInteger: Bool
        var isNegative: Bool
        /// The absolute value of an integer, `nil` if it does not fit.
        var magnitude: UInt64?

        var uint64: UInt64? {
            isNegative && magnitude != 0 ? nil : magnitude
        }

        var int64: Int64? {
            guard let magnitude else { return nil }
            guard isNegative else { return Int64(exactly: magnitude) }
            return magnitude <= Int64.min.magnitude ? 0 &- Int64(truncatingIfNeeded: magnitude) : nil
        }
    }

    /// Checks a number from its first character, where the position is, and moves behind it.
    mutating func scanNumber() throws(JSONError) -> NumberLiteral {
        let start = position
        let isNegative = consumeNow(UInt8(ascii: "-"))
        let firstDigit = position
        var magnitude: UInt64 = 0
        var overflows = false
        while let digit = nextDigit {
            if position - firstDigit < 19 {
                magnitude = magnitude &* 10 &+ UInt64(digit)  // nineteen digits always fit
            } else if let sum = magnitude.multiplied(checked: 10)?.adding(checked: UInt64(digit)) {
                magnitude = sum
            } else {
                overflows = true
            }
            position += 1
        }
        if position == firstDigit { throw unexpected("a digit") }
        if position - firstDigit > 1, byte(at: firstDigit) == UInt8(ascii: "0") {
            throw JSONError(offset: start, "a number begins with a superfluous 0")
        }
        guard let next = nextByte, next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") else {
            return NumberLiteral(
                range: start..<position, isInteger: true, isNegative: isNegative,
                magnitude: overflows ? nil : magnitude)
        }
        try skipFractionAndExponent()
        return NumberLiteral(range: start..<position, isInteger: false, isNegative: isNegative, magnitude: nil)
    }

    private mutating func skipFractionAndExponent() throws(JSONError) {
        if consumeNow(UInt8(ascii: ".")) { try skipDigits() }
        if consumeNow(UInt8(ascii: "e")) || consumeNow(UInt8(ascii: "E")) {
            if !consumeNow(UInt8(ascii: "+")) { _ = consumeNow(UInt8(ascii: "-")) }
            try skipDigits()
        }
    }

    private mutating func readIntegerLiteral() throws(JSONError) -> NumberLiteral {
        let kind = try peekKind()
        if kind != .number { throw error("expected an integer, found \(kind)") }
        let literal = try scanNumber()
        guard literal.isInteger else {
            throw JSONError(
                offset: literal.range.lowerBound, "expected an integer, found the number \(abbreviation(literal))")
        }
        return literal
    }

    private func double(_ literal: NumberLiteral) throws(JSONError) -> Double {
        guard let value = Double(text(literal.range)), value.isFinite else { throw outOfRange(literal) }
        return value
    }

    private func outOfRange(_ literal: NumberLiteral) -> JSONError {
        JSONError(offset: literal.range.lowerBound, "the number \(abbreviation(literal)) is out of range")
    }

    private func abbreviation(_ literal: NumberLiteral) -> String {
        let range = literal.range
        return range.count <= 40 ? text(range) : text(range.lowerBound..<range.lowerBound + 40) + "..."
    }

    @inline(__always) private var nextDigit: UInt8? {
        guard let byte = nextByte, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
        return byte &- UInt8(ascii: "0")
    }

    private mutating func skipDigits() throws(JSONError) {
        if nextDigit == nil { throw unexpected("a digit") }
        while nextDigit != nil { position += 1 }
    }

    @inline(__always) private mutating func consumeNow(_ byte: UInt8) -> Bool {
        guard nextByte == byte else { return false }
        position += 1
        return true
    }
}
