import CairnBase

extension PickleInterpreter {
    /// Makes a number, text or bytes; false when the opcode is none of those.
    mutating func executeScalar(_ opcode: UInt8) throws(CairnError) -> Bool {
        switch opcode {
        case UInt8(ascii: "K"): try push(.integer(Int64(byte())))
        case UInt8(ascii: "M"): try push(.integer(Int64(count(byteCount: 2))))
        case UInt8(ascii: "J"):
            try push(.integer(Int64(Int32(truncatingIfNeeded: count(byteCount: 4)))))
        case 0x8A: try pushInteger(byteCount: Int(byte()))
        case 0x8B: try pushInteger(byteCount: count(byteCount: 4))
        case UInt8(ascii: "I"), UInt8(ascii: "L"): try pushDecimal(line(), opcode)
        case UInt8(ascii: "F"):
            let digits = try text(line())
            guard let value = Double(digits) else {
                throw failure(.malformed, "a number in the pickle is not valid", found: digits.debugDescription)
            }
            try push(.double(value))
        case UInt8(ascii: "G"):
            try push(.double(Double(bitPattern: take(8).reduce(0) { $0 << 8 | UInt64($1) })))
        case UInt8(ascii: "X"): try push(.string(text(take(count(byteCount: 4)))))
        case 0x8C: try push(.string(text(take(count(byteCount: 1)))))
        case 0x8D: try push(.string(text(take(count(byteCount: 8)))))
        case UInt8(ascii: "V"): try push(.string(unicodeLine()))
        case UInt8(ascii: "B"): try push(.bytes(Array(take(count(byteCount: 4)))))
        case UInt8(ascii: "C"): try push(.bytes(Array(take(count(byteCount: 1)))))
        case 0x8E, 0x96: try push(.bytes(Array(take(count(byteCount: 8)))))
        case UInt8(ascii: "T"): try push(oldText(take(count(byteCount: 4))))
        case UInt8(ascii: "U"): try push(oldText(take(count(byteCount: 1))))
        case UInt8(ascii: "S"): try push(oldText(unquoted(line())[...]))
        default: return false
        }
        return true
    }

    /// A Python 2 `str`: text where it can be, else bytes.
    private func oldText(_ bytes: ArraySlice<UInt8>) -> Node {
        String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(Array(bytes))
    }

    private mutating func pushInteger(byteCount: Int) throws(CairnError) {
        guard byteCount <= limits.integerByteCount else {
            throw failure(.unsupported, "an integer of the pickle is too long", found: "\(byteCount) bytes")
        }
        var bytes = Array(try take(byteCount))
        let isNegative = bytes.last.map { $0 >= 0x80 } ?? false
        // Leading bytes that only repeat the sign are not part of the number.
        while bytes.count > 8, bytes.last == (isNegative ? 0xFF : 0), (bytes[bytes.count - 2] >= 0x80) == isNegative {
            bytes.removeLast()
        }
        guard bytes.count <= 8 else {
            try push(.bigInteger(bytes))
            return
        }
        let value = bytes.reversed().reduce(isNegative ? UInt64.max : 0) { $0 << 8 | UInt64($1) }
        try push(.integer(Int64(bitPattern: value)))
    }

    /// A decimal integer on a line of its own. `00` and `01` are booleans; a trailing `L` marks a long one.
    private mutating func pushDecimal(_ line: ArraySlice<UInt8>, _ opcode: UInt8) throws(CairnError) {
        if opcode == UInt8(ascii: "I"), line.elementsEqual("00".utf8) || line.elementsEqual("01".utf8) {
            stack.append(line.last == UInt8(ascii: "1") ? Self.trueNode : Self.falseNode)
            return
        }
        let digits = try text(line.last == UInt8(ascii: "L") ? line.dropLast() : line)
        if let value = Int64(digits) { return try push(.integer(value)) }
        guard digits.utf8.count <= limits.integerByteCount * 2, let bytes = PythonInteger.bytes(digits) else {
            throw failure(
                .unsupported, "an integer of the pickle is too long or none", found: "\(digits.utf8.count) digits")
        }
        try push(.bigInteger(bytes))
    }

    func decimal(_ line: ArraySlice<UInt8>) throws(CairnError) -> Int {
        let digits = try text(line)
        guard let value = Int(digits) else {
            throw failure(
                .unsupported, "an integer of the pickle is out of range or none", found: "\(digits.count) digits")
        }
        return value
    }

    /// Text in which `\uXXXX` and `\UXXXXXXXX` stand for a code point and other bytes for themselves (Latin-1).
    private mutating func unicodeLine() throws(CairnError) -> String {
        let line = Array(try line())
        var text = String.UnicodeScalarView()
        var index = 0
        while index < line.count {
            let length =
                index + 1 < line.count && line[index] == UInt8(ascii: "\\")
                ? (line[index + 1] == UInt8(ascii: "u") ? 4 : line[index + 1] == UInt8(ascii: "U") ? 8 : 0) : 0
            guard length > 0 else {
                text.append(Unicode.Scalar(line[index]))
                index += 1
                continue
            }
            let digits = String(decoding: line[(index + 2)..<min(line.count, index + 2 + length)], as: UTF8.self)
            guard digits.utf8.count == length, let code = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(code)
            else { throw failure(.malformed, "text in the pickle has a wrong escape") }
            text.append(scalar)
            index += 2 + length
        }
        return String(text)
    }

    /// The bytes of a quoted Python 2 string.
    private func unquoted(_ line: ArraySlice<UInt8>) throws(CairnError) -> [UInt8] {
        guard line.count >= 2, let quote = line.first, quote == line.last,
            quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"")
        else { throw failure(.malformed, "text in the pickle has no quotes") }
        let plain: [UInt8: UInt8] = [
            UInt8(ascii: "n"): 10, UInt8(ascii: "r"): 13, UInt8(ascii: "t"): 9, UInt8(ascii: "\\"): 92,
            UInt8(ascii: "'"): 39, UInt8(ascii: "\""): 34,
        ]
        var result: [UInt8] = []
        var rest = line.dropFirst().dropLast()
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\") else {
                result.append(byte)
                continue
            }
            guard let escape = rest.popFirst() else {
                throw failure(.malformed, "text in the pickle has a wrong escape")
            }
            if let value = plain[escape] {
                result.append(value)
            } else if escape == UInt8(ascii: "x"),
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                result.append(value)
                rest = rest.dropFirst(2)
            } else {
                throw failure(.malformed, "text in the pickle has a wrong escape")
            }
        }
        return result
    }
}
