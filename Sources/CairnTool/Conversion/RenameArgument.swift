import ArgumentParser
import CairnBase
import CairnCheckpoint

/// `PATTERN=REPLACEMENT` of the command line, cut at the first equals sign.
struct RenameArgument: ExpressibleByArgument, Sendable {
    let rule: RenameRule

    init?(argument: String) {
        guard let equals = argument.firstIndex(of: "=") else { return nil }
        let replacement = String(argument[argument.index(after: equals)...])
        guard !replacement.isEmpty else { return nil }
        do throws(CairnError) {
            rule = try RenameRule(String(argument[..<equals]), to: replacement)
        } catch {
            return nil
        }
    }
}
