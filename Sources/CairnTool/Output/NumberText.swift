/// Numbers as text, the same everywhere.
enum NumberText {
    /// A number with so many digits behind the point.
    static func fixed(_ value: Double, digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        guard abs(value) < 1e15, let scaled = Int(exactly: (abs(value) * scale).rounded()) else {
            return value.description
        }
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + String(scaled) }
        let text = String(scaled)
        let padded = String(repeating: "0", count: max(0, digits + 1 - text.count)) + text
        return sign + padded.dropLast(digits) + "." + padded.suffix(digits)
    }

    /// A number short enough for a table: about six significant digits, for people and not for programs.
    static func short(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
        if value == 0 { return "0" }
        if value == value.rounded(), abs(value) < 1e9 { return fixed(value, digits: 0) }
        let magnitude = abs(value)
        if magnitude >= 1e-4, magnitude < 1e7 {
            var digits = 6
            var bound = 1.0
            while magnitude >= bound, digits > 0 {
                bound *= 10
                digits -= 1
            }
            if magnitude < 1 { digits = magnitude < 0.01 ? 8 : 6 }
            return fixed(value, digits: digits)
        }
        var exponent = 0
        var mantissa = magnitude
        while mantissa >= 9.999995, exponent < 400 {
            mantissa /= 10
            exponent += 1
        }
        while mantissa < 0.9999995, exponent > -400 {
            mantissa *= 10
            exponent -= 1
        }
        let sign = exponent < 0 ? "-" : "+"
        let digits = String(abs(exponent))
        let text = (digits.count < 2 ? "0" : "") + digits
        return (value < 0 ? "-" : "") + fixed(mantissa, digits: 5) + "e" + sign + text
    }

    /// The same without zeros at the end, for numbers that stand in a line of text.
    static func brief(_ value: Double) -> String {
        let text = short(value)
        guard text.contains("."), !text.contains("e") else { return text }
        let trimmed = text.reversed().drop { $0 == "0" }
        return String(trimmed.drop { $0 == "." }.reversed())
    }

    /// A count with its thousands apart: `12 345 678`.
    static func grouped(_ value: Int) -> String {
        var result = ""
        for (index, digit) in String(value.magnitude).reversed().enumerated() {
            if index > 0, index % 3 == 0 { result.append(" ") }
            result.append(digit)
        }
        return (value < 0 ? "-" : "") + String(result.reversed())
    }
}
