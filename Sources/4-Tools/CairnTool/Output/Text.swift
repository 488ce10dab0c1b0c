import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Numbers as text, the same everywhere.
enum NumberText {
    /// How many there are of what the noun names: `1 tensor`, `2 tensors`.
    static func count(_ number: Int, _ noun: String) -> String { "\(grouped(number)) \(noun)\(number == 1 ? "" : "s")" }

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

/// Byte counts as people write them.
enum ByteCountText {
    private static let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]

    /// `1.5 GiB`: three digits and a binary unit.
    static func describe(_ byteCount: Int) -> String {
        var value = Double(byteCount)
        var unit = 0
        while value >= 1023.5, unit + 1 < units.count {
            value /= 1024
            unit += 1
        }
        if unit == 0 { return "\(byteCount) B" }
        return NumberText.fixed(value, digits: value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + " " + units[unit]
    }

    /// The bytes of `5GB`, `512MiB` or `1000`: decimal units have no `i`; `nil` for anything else.
    static func parse(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        guard let number = Double(digits), number >= 0 else { return nil }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }.uppercased()
        let factor: Double
        switch unit {
        case "", "B": factor = 1
        case "K", "KB": factor = 1e3
        case "M", "MB": factor = 1e6
        case "G", "GB": factor = 1e9
        case "T", "TB": factor = 1e12
        case "KIB": factor = 1024
        case "MIB": factor = 1_048_576
        case "GIB": factor = 1_073_741_824
        case "TIB": factor = 1_099_511_627_776
        default: return nil
        }
        return Int(exactly: (number * factor).rounded())
    }
}

/// Durations as text for a table: three digits and a unit.
enum DurationText {
    /// A duration from microseconds to hours.
    static func describe(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0 else { return NumberText.short(seconds) }
        if seconds == 0 { return "0" }
        if seconds < 0.9995e-3 { return scaled(seconds * 1e6) + " us" }
        if seconds < 0.9995 { return scaled(seconds * 1e3) + " ms" }
        if seconds < 3600 { return scaled(seconds) + " s" }
        return scaled(seconds / 3600) + " h"
    }

    private static func scaled(_ value: Double) -> String {
        NumberText.fixed(value, digits: value < 9.995 ? 2 : value < 99.95 ? 1 : 0)
    }
}

/// Times as text.
enum TimeText {
    /// ISO 8601 in UTC, to the second, from seconds since 1970; `nil` where that is not a time of the calendar.
    static func iso(_ seconds: Double) -> String? {
        guard let whole = time_t(exactly: seconds.rounded(.down)) else { return nil }
        var seconds = whole
        var parts = tm()
        guard gmtime_r(&seconds, &parts) != nil else { return nil }
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(Int(parts.tm_year) + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
    }
}

/// Meshes for a person.
enum MeshText {
    /// `dp=2,tp=4`, several with `; ` between them; `nil` for none.
    static func describe(_ meshes: [DeviceMesh]) -> String? {
        meshes.isEmpty ? nil : meshes.map(\.description).joined(separator: "; ")
    }
}

/// Into which pieces a tensor is cut, in a few words: `2×2 pieces in 4 files`.
enum PieceText {
    static func describe(_ pieces: [StoredPiece]) -> String {
        let files = Set(pieces.map(\.file)).count
        let spread = files == 1 ? "in one file" : "in \(files) files"
        let dimensions = pieces.first?.region.offsets.indices ?? 0..<0
        let cuts = dimensions.map { dimension in Set(pieces.map { $0.region.offsets[dimension] }).count }
        // Pieces that are not a grid are only counted.
        let isGrid = cuts.reduce(1, *) == pieces.count
        return (isGrid ? cuts.map(String.init).joined(separator: "×") : String(pieces.count)) + " pieces \(spread)"
    }
}

/// A value in one line.
enum ValueText {
    /// As in a program; long lists and bytes by their beginning.
    static func describe(_ value: Value) -> String {
        switch value {
        case .null: "null"
        case .bool(let value): String(value)
        case .integer(let value): String(value)
        case .unsigned(let value): String(value)
        case .double(let value): value.description
        case .string(let value): "\"" + value + "\""
        case .bytes(let value):
            "<\(value.count) bytes" + (value.isEmpty ? "" : " " + Hexadecimal.encode(value.prefix(16)))
                + (value.count > 16 ? "…>" : ">")
        case .list(let values): "[" + join(values.map(describe)) + "]"
        case .dictionary(let values):
            "{"
                + join(
                    values.sorted { ExactString($0.key) < ExactString($1.key) }
                        .map { $0.key + ": " + describe($0.value) }) + "}"
        }
    }

    private static func join(_ parts: [String]) -> String {
        let shown = parts.prefix(16).joined(separator: ", ")
        return parts.count > 16 ? shown + ", … \(parts.count) in all" : shown
    }
}

/// Text from files, made safe to print.
enum PrintableText {
    /// The text with control characters, line separators and direction overrides as escapes.
    ///
    /// Names come from files that anyone may have written: a terminal must not obey them.
    static func escape(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isUnsafe) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where isUnsafe(scalar): result += "\\u{" + String(scalar.value, radix: 16) + "}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// How many columns of a terminal the text takes.
    static func width(_ text: String) -> Int {
        text.reduce(0) { $0 + width($1) }
    }

    /// The text cut in the middle, so that it takes at most `columns`.
    static func shorten(_ text: String, to columns: Int) -> String {
        guard width(text) > columns else { return text }
        guard columns > 1 else { return columns == 1 ? "…" : "" }
        var head = "", tail = ""
        var left = (columns - 1) / 2
        for character in text {
            left -= width(character)
            if left < 0 { break }
            head.append(character)
        }
        left = columns - 1 - width(head)
        for character in text.reversed() {
            left -= width(character)
            if left < 0 { break }
            tail.append(character)
        }
        return head + "…" + String(tail.reversed())
    }

    private static func width(_ character: Character) -> Int {
        guard let scalar = character.unicodeScalars.first else { return 0 }
        // East Asian wide and fullwidth blocks, and pictographs.
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
            0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
            return 2
        default: return 1
        }
    }

    private static func isUnsafe(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: true
        default: false
        }
    }
}
