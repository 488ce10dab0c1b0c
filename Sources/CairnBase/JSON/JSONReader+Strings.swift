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
            let marks = ((word &- ones &* 0x20) & ~word | (quotes &- ones) & ~quotes
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
