import Cairn
import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Prints a line at once, also into a pipe.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
}

/// A number with four decimals.
func decimal(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
    let scaled = Int((abs(value) * 10_000).rounded())
    let fraction = String(scaled % 10_000)
    return (value < 0 ? "-" : "") + "\(scaled / 10_000)." + String(repeating: "0", count: 4 - fraction.count) + fraction
}

/// A number that is not negative with two digits and a power of ten, such as `3.1e-06`; zero is `0`.
func scientific(_ value: Double) -> String {
    guard value.isFinite, value > 0 else { return value == 0 ? "0" : "\(value)" }
    var exponent = Int(log10(value).rounded(.down))
    var tenths = Int((value / pow(10, Double(exponent)) * 10).rounded())
    if tenths >= 100 {
        exponent += 1
        tenths /= 10
    }
    let digits = String(abs(exponent))
    return "\(tenths / 10).\(tenths % 10)e" + (exponent < 0 ? "-" : "+") + (digits.count < 2 ? "0" : "") + digits
}

/// A text filled up with spaces on the right, or on the left, to a width.
func padded(_ text: String, _ width: Int, right: Bool = false) -> String {
    let fill = String(repeating: " ", count: max(0, width - text.count))
    return right ? fill + text : text + fill
}

/// Prints the one JSON document of a command with `--json`, its schema in front.
func printDocument(_ schema: String, _ object: JSONObject) throws(CairnError) {
    say(String(decoding: try object.document(schema), as: UTF8.self))
}
