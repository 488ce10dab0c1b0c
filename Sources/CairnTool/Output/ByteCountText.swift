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
