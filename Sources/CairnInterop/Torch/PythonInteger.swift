import CairnTensor

/// Integers beyond 64 bits.
enum PythonInteger {
    /// The value of two's complement, little-endian bytes: a number if it fits, else its decimal digits.
    static func value(_ bytes: [UInt8]) -> Value {
        let digits = decimal(bytes)
        return UInt64(digits).map { .unsigned($0) } ?? .string(digits)
    }

    /// The decimal digits.
    static func decimal(_ bytes: [UInt8]) -> String {
        let isNegative = bytes.last.map { $0 >= 0x80 } ?? false
        var magnitude = bytes
        if isNegative {
            var carry = true
            for index in magnitude.indices {
                magnitude[index] = ~magnitude[index]
                if carry {
                    (magnitude[index], carry) = magnitude[index].addingReportingOverflow(1)
                }
            }
        }
        var digits: [String] = []
        while magnitude.contains(where: { $0 != 0 }) {
            var rest = 0
            for index in magnitude.indices.reversed() {
                let value = rest << 8 | Int(magnitude[index])
                magnitude[index] = UInt8(value / 10_000)
                rest = value % 10_000
            }
            let text = String(rest)
            digits.append(String(repeating: "0", count: 4 - text.utf8.count) + text)
        }
        let text = digits.reversed().joined().drop { $0 == "0" }
        return (isNegative ? "-" : "") + (text.isEmpty ? "0" : String(text))
    }

    /// Two's complement, little-endian, of decimal digits with an optional minus; `nil` for something else.
    static func bytes(_ digits: String) -> [UInt8]? {
        let isNegative = digits.utf8.first == UInt8(ascii: "-")
        let magnitude = digits.utf8.dropFirst(isNegative ? 1 : 0)
        guard !magnitude.isEmpty, magnitude.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        var bytes: [UInt8] = []
        for digit in magnitude {
            var carry = Int(digit - 0x30)
            for index in bytes.indices {
                carry += Int(bytes[index]) * 10
                bytes[index] = UInt8(carry & 0xFF)
                carry >>= 8
            }
            if carry > 0 { bytes.append(UInt8(carry)) }
        }
        // Room for the sign.
        bytes.append(0)
        guard isNegative else { return bytes }
        var carry = true
        for index in bytes.indices {
            bytes[index] = ~bytes[index]
            if carry { (bytes[index], carry) = bytes[index].addingReportingOverflow(1) }
        }
        return bytes
    }
}
