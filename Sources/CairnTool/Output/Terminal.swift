#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What standard output and standard error are connected to.
enum Terminal {
    /// Whether results go to a person's terminal.
    static let isOutput = isatty(STDOUT_FILENO) == 1
    /// Whether talk goes to a person's terminal.
    static let isError = isatty(STDERR_FILENO) == 1

    /// The width of a table on standard output, `nil` for no limit.
    static let outputColumns: Int? = isOutput ? columns(of: STDOUT_FILENO) ?? 80 : nil
    /// The width of a line on standard error.
    static let errorColumns: Int = columns(of: STDERR_FILENO) ?? 80

    /// Whether to write colour: on a terminal that has it, unless NO_COLOR (https://no-color.org) is set.
    static let usesColor = isOutput && environment("NO_COLOR") == nil && environment("TERM") != "dumb"

    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name), value.pointee != 0 else { return nil }
        return String(cString: value)
    }

    private static func columns(of descriptor: Int32) -> Int? {
        var size = winsize()
        guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return Int(size.ws_col)
    }
}

/// How a word is set apart on a terminal with colours.
enum Emphasis: String {
    case heading = "1"
    case faint = "2"
    case good = "32"
    case bad = "31"
    case doubtful = "33"

    /// The text in this colour, or as it is where there are none.
    func apply(_ text: String) -> String {
        Terminal.usesColor ? "\u{1B}[\(rawValue)m\(text)\u{1B}[0m" : text
    }
}
