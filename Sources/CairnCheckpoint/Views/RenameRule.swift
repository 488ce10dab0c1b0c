public import CairnBase

/// How names that fit a pattern are written anew: `model.*.wq` as `layers.$1.attention.query`.
///
/// In the replacement `$1` is what the first wildcard of the pattern stands for, and so on; `${1}` is the same where a
/// digit follows, `$$` a dollar sign. A `*` stands for nothing there, so it is refused: `\*` is an asterisk.
public struct RenameRule: Sendable, Hashable {
    private enum TemplatePart: Sendable, Hashable {
        case text(String)
        case capture(Int)
    }

    /// Which names the rule applies to.
    public let pattern: GlobPattern
    /// The replacement as it was written.
    public let replacement: String
    private let pieces: [TemplatePart]

    /// Reads a rule.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid pattern, a `*` in the replacement, or a `$` that is
    ///   followed by something else than a number of one of its wildcards.
    public init(_ pattern: String, to replacement: String) throws(CairnError) {
        self.pattern = try GlobPattern(pattern)
        self.replacement = replacement
        let count = self.pattern.wildcardCount
        var pieces: [TemplatePart] = []
        var text = String.UnicodeScalarView()
        var rest = Array(replacement.unicodeScalars)[...]
        while let scalar = rest.popFirst() {
            if scalar == "\\", rest.first == "*" {
                text.append("*")
                rest.removeFirst()
                continue
            }
            guard scalar != "*" else {
                throw CairnError(
                    .invalidArgument, "a \"*\" in the replacement stands for nothing",
                    .init(
                        expected: count == 0 ? "a name" : "$1 for what the first wildcard stands for",
                        found: replacement.debugDescription, advice: "write \"\\*\" for an asterisk"))
            }
            guard scalar == "$" else {
                text.append(scalar)
                continue
            }
            if rest.first == "$" {
                text.append("$")
                rest.removeFirst()
                continue
            }
            guard let number = Self.number(&rest), (1...max(1, count)).contains(number), count > 0 else {
                throw CairnError(
                    .invalidArgument, "a \"$\" in the replacement is followed by no number of a wildcard",
                    .init(
                        expected: count == 0 ? "no wildcards in \"\(pattern)\"" : "$1 to $\(count)",
                        found: replacement.debugDescription, advice: "write \"$$\" for a dollar sign"))
            }
            pieces.append(.text(String(text)))
            pieces.append(.capture(number - 1))
            text = String.UnicodeScalarView()
        }
        pieces.append(.text(String(text)))
        self.pieces = pieces
    }

    /// The new name, `nil` if the pattern does not fit the old one.
    public func apply(to name: String) -> String? {
        guard let captures = pattern.captures(name) else { return nil }
        return pieces.map { piece in
            switch piece {
            case .text(let text): text
            case .capture(let index): captures[index]
            }
        }.joined()
    }

    /// Takes the number after a `$`, with or without braces.
    private static func number(_ rest: inout ArraySlice<Unicode.Scalar>) -> Int? {
        let isBraced = rest.first == "{"
        if isBraced { rest.removeFirst() }
        var digits = ""
        while let scalar = rest.first, ("0"..."9").contains(scalar), digits.utf8.count < 4 {
            digits.unicodeScalars.append(scalar)
            rest.removeFirst()
        }
        if isBraced, rest.popFirst() != "}" { return nil }
        return Int(digits)
    }
}
