import ArgumentParser
import CairnBase
import Synchronization

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

/// Standard output: the result.
enum StandardOutput {
    /// Writes text and a newline.
    ///
    /// - Throws: ``CairnError/Code/inputOutput`` when not all of it could be written, so that a full disk is not a
    ///   success.
    static func line(_ text: String) throws(CairnError) {
        try write(Array((text + "\n").utf8))
    }

    /// Writes bytes.
    ///
    /// - Throws: ``CairnError/Code/inputOutput``.
    static func write(_ bytes: [UInt8]) throws(CairnError) {
        let failure = writeAll(bytes, to: STDOUT_FILENO)
        guard let failure else { return }
        throw CairnError(.inputOutput, String(cString: strerror(failure)), .init(file: "standard output"))
    }
}

/// Standard error: talk.
enum StandardError {
    /// Writes text and a newline. A failure is ignored, there being nowhere to report it.
    static func line(_ text: String) {
        _ = writeAll(Array((text + "\n").utf8), to: STDERR_FILENO)
    }

    /// Writes text as it is.
    static func write(_ text: String) {
        _ = writeAll(Array(text.utf8), to: STDERR_FILENO)
    }

    /// A remark that is not a failure.
    static func note(_ text: String) {
        line("cairn: note: " + PrintableText.escape(text))
    }
}

/// Writes everything, or returns the error number.
private func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32? {
    bytes.withUnsafeBytes { buffer in
        var written = 0
        while written < buffer.count {
            let count = write(descriptor, buffer.baseAddress.map { $0 + written }, buffer.count - written)
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            written += count
        }
        return nil
    }
}

/// A bar on standard error while something takes long; silent where standard error is not a terminal. Any thread may report.
final class ProgressBar: Sendable {
    private struct State {
        var done = 0
        var lastDrawn: ContinuousClock.Instant
        var isDrawn = false
    }

    private let title: String
    private let total: Int
    private let isShown: Bool
    private let start: ContinuousClock.Instant
    private let state: Mutex<State>

    /// - Parameters:
    ///   - title: what is being done, one word.
    ///   - total: the bytes to do.
    init(_ title: String, total: Int, isShown: Bool = Terminal.isError) {
        self.title = title
        self.total = total
        self.isShown = isShown
        start = ContinuousClock.now
        state = Mutex(State(lastDrawn: start))
    }

    deinit { finish() }

    /// Counts bytes that have just been done.
    func add(_ byteCount: Int) {
        guard isShown else { return }
        state.withLock { state in
            state.done = state.done.adding(clamped: byteCount)
            let now = ContinuousClock.now
            guard now - state.lastDrawn > .milliseconds(100) else { return }
            state.lastDrawn = now
            state.isDrawn = true
            StandardError.write("\r\u{1B}[K" + text(done: state.done, seconds: (now - start) / .seconds(1)))
        }
    }

    /// Removes the bar.
    func finish() {
        state.withLock { state in
            if state.isDrawn { StandardError.write("\r\u{1B}[K") }
            state.isDrawn = false
        }
    }

    private func text(done: Int, seconds: Double) -> String {
        let fraction = total > 0 ? min(1, Double(done) / Double(total)) : 1
        let rate = seconds > 0 ? ByteCountText.describe(Int(Double(done) / seconds)) + "/s" : ""
        let counts = "\(ByteCountText.describe(done)) of \(ByteCountText.describe(total))  \(rate)"
        let room = min(30, Terminal.errorColumns - title.count - counts.count - 12)
        var bar = ""
        if room > 4 {
            let filled = Int(fraction * Double(room))
            bar = "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: room - filled) + "] "
        }
        return "\(title) \(bar)\(Int(fraction * 100))%  \(counts)"
    }
}

/// How the tool ends.
enum Exit {
    /// Done, and the answer is "no".
    static let answerIsNo = ExitCode(1)

    /// Says in one line on standard error why it could not be done, and ends the process.
    static func fail(_ error: CairnError) -> Never {
        StandardError.line("cairn: " + PrintableText.escape(error.description))
        now(error.code == .cancelled ? 130 : 2)
    }

    /// Ends the process.
    static func now(_ code: Int32) -> Never { exit(code) }
}
