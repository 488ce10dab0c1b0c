import ArgumentParser
import CairnBase
import CairnCheckpoint

/// `PATTERN=REPLACEMENT` of the command line, cut at the first equals sign.
struct RenameArgument: ExpressibleByArgument, Sendable {
    private let pattern: String
    private let replacement: String

    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "=") else { return nil }
        pattern = String(argument[..<equals])
        replacement = String(argument[argument.index(after: equals)...])
        guard !replacement.isEmpty else { return nil }
    }

    /// - Throws: ``CairnError/Code/invalidArgument``, saying what is wrong with it.
    func rule() throws(CairnError) -> RenameRule { try RenameRule(pattern, to: replacement) }
}
