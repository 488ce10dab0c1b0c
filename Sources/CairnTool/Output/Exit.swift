import ArgumentParser
import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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
