/// Bytes as text in the standard alphabet with padding (RFC 4648, section 4).
package enum Base64 {
    /// Four characters for every three bytes, the last group padded with `=`.
    package static func encode(_ bytes: [UInt8]) -> String {
        encode(bytes.span)
    }

    /// Four characters for every three bytes, the last group padded with `=`.
    package static func encode(_ bytes: Span<UInt8>) -> String {
        let alphabet = alphabet
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count.dividedRoundingUp(by: 3) * 4)
        var index = 0
        while bytes.count - index >= 3 {
            let group = Int(bytes[index]) << 16 | Int(bytes[index + 1]) << 8 | Int(bytes[index + 2])
            text.append(alphabet[group >> 18])
            text.append(alphabet[group >> 12 & 63])
            text.append(alphabet[group >> 6 & 63])
            text.append(alphabet[group & 63])
            index += 3
        }
        let rest = bytes.count - index
        if rest > 0 {
            let group = Int(bytes[index]) << 16 | (rest == 2 ? Int(bytes[index + 1]) << 8 : 0)
            text.append(alphabet[group >> 18])
            text.append(alphabet[group >> 12 & 63])
            text.append(rest == 2 ? alphabet[group >> 6 & 63] : padding)
            text.append(padding)
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes that `encode` would give this very text for.
    ///
    /// - Throws: `malformed` for a wrong length, a character outside the alphabet, white space included, wrong padding,
    ///   or bits set that belong to no byte.
    package static func decode(_ text: String) throws(CairnError) -> [UInt8] {
        let characters = Array(text.utf8)
        guard characters.count.isMultiple(of: 4) else {
            throw CairnError(.malformed, "base64 text whose length of \(characters.count) is not a multiple of 4")
        }
        let paddingCount = characters.suffix(2).reversed().prefix { $0 == padding }.count
        let values = values
        var bytes: [UInt8] = []
        bytes.reserveCapacity(characters.count / 4 * 3)
        var group: UInt32 = 0
        for index in 0..<characters.count - paddingCount {
            let value = values[Int(characters[index])]
            guard value < 64 else {
                throw CairnError(.malformed, "base64 text with a character outside the alphabet at \(index)")
            }
            group = group << 6 | UInt32(value)
            if index & 3 == 3 {
                bytes.append(UInt8(truncatingIfNeeded: group >> 16))
                bytes.append(UInt8(truncatingIfNeeded: group >> 8))
                bytes.append(UInt8(truncatingIfNeeded: group))
                group = 0
            }
        }
        // Three characters hold 18 bits of 16, two hold 12 bits of 8.
        guard group & [0, 3, 15][paddingCount] == 0 else {
            throw CairnError(.malformed, "base64 text whose last character has bits set that belong to no byte")
        }
        if paddingCount == 1 { bytes.append(UInt8(truncatingIfNeeded: group >> 10)) }
        if paddingCount > 0 { bytes.append(UInt8(truncatingIfNeeded: group >> (paddingCount == 1 ? 2 : 4))) }
        return bytes
    }

    private static let padding = UInt8(ascii: "=")

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    /// The value of each character, 64 for those outside the alphabet.
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 64, count: 256)
        for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
        return values
    }()
}

/// Bytes as pairs of hexadecimal digits, for digests and ids.
package enum Hexadecimal {
    /// Two lowercase digits for each byte.
    package static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digit(byte >> 4))
            text.append(digit(byte & 15))
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes, from digits in either case.
    ///
    /// - Throws: `malformed` if anything else is in the text, or half a byte.
    package static func decode(_ text: String) throws(CairnError) -> [UInt8] {
        let digits = Array(text.utf8)
        guard digits.count.isMultiple(of: 2) else {
            throw CairnError(.malformed, "hexadecimal text of an odd length of \(digits.count)")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = value(ofDigit: digits[index]), let low = value(ofDigit: digits[index + 1]) else {
                throw CairnError(.malformed, "hexadecimal text with something else at character \(index) or the next")
            }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    /// The value of an ASCII digit in either case, `nil` for other characters.
    static func value(ofDigit byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}
