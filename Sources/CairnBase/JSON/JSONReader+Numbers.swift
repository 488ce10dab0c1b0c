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

    /// Reads an integer that is not negative. `1.0` and `1e3` are not integers.
    package mutating func readUInt64() throws(JSONError) -> UInt64 {
        let literal = try readIntegerLiteral()
        guard let value = literal.uint64 else { throw outOfRange(literal) }
        return value
    }

    /// Reads a number in either notation, correctly rounded.
    ///
    /// - Throws: For numbers too large for a double.
    package mutating func readDouble() throws(JSONError) -> Double {
        try expect(.number)
        return try double(scanNumber())
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
