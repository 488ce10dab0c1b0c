import CairnBase

/// Reads Python's notation of regular expressions.
struct ModulePatternParser {
    private static let greatestDepth = 64
    private static let greatestCount = 1000

    private let text: String
    private var rest: ArraySlice<Unicode.Scalar>
    private var depth = 0

    init(_ text: String) {
        self.text = text
        rest = Array(text.unicodeScalars)[...]
    }

    /// - Throws: ``CairnError/Code/malformed``, ``CairnError/Code/unsupported``.
    mutating func parse() throws(CairnError) -> ModulePattern.Node {
        let node = try choice()
        guard rest.isEmpty else { throw malformed("a ) without its (") }
        return node
    }

    private func malformed(_ what: String) -> CairnError {
        CairnError(.malformed, "a pattern is not a regular expression: \(what)", .init(found: text.debugDescription))
    }

    private func unsupported(_ what: String) -> CairnError {
        CairnError(
            .unsupported, "a pattern uses \(what), which is not followed",
            .init(found: text.debugDescription, advice: "write the names of the modules instead"))
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard rest.first == scalar else { return false }
        rest.removeFirst()
        return true
    }

    private mutating func choice() throws(CairnError) -> ModulePattern.Node {
        var ways = [try sequence()]
        while take("|") { ways.append(try sequence()) }
        return ways.count == 1 ? ways[0] : .choice(ways)
    }

    private mutating func sequence() throws(CairnError) -> ModulePattern.Node {
        var parts: [ModulePattern.Node] = []
        while let next = rest.first, next != "|", next != ")" {
            let part = try single()
            parts.append(try repeated(part))
        }
        return parts.count == 1 ? parts[0] : .sequence(parts)
    }

    private mutating func repeated(_ node: ModulePattern.Node) throws(CairnError) -> ModulePattern.Node {
        guard let (least, most) = try quantifier() else { return node }
        if case .anchor = node { throw unsupported("a repeated anchor") }
        // How greedy it is does not change whether it fits.
        if !take("?"), rest.first == "+" { throw unsupported("a possessive quantifier") }
        let next = rest
        if try quantifier() != nil { throw malformed("a quantifier of a quantifier") }
        rest = next
        return .repetition(node, least: least, most: most)
    }

    private mutating func quantifier() throws(CairnError) -> (least: Int, most: Int?)? {
        if take("*") { return (0, nil) }
        if take("+") { return (1, nil) }
        if take("?") { return (0, 1) }
        guard rest.first == "{" else { return nil }
        let before = rest
        rest.removeFirst()
        let low = digits()
        let hasComma = take(",")
        let high = hasComma ? digits() : low
        guard hasComma || !low.isEmpty, take("}") else {
            // As in Python a brace that begins no quantifier is a character.
            rest = before
            return nil
        }
        guard let least = low.isEmpty ? 0 : Int(low), let most = high.isEmpty ? Int.max : Int(high),
            least <= Self.greatestCount, most <= Self.greatestCount || high.isEmpty
        else { throw unsupported("a great number of repetitions") }
        guard least <= most else { throw malformed("a quantifier's end lies before its begin") }
        return (least, high.isEmpty ? nil : most)
    }

    private mutating func digits() -> String {
        var digits = ""
        while let next = rest.first, ("0"..."9").contains(next) {
            digits.unicodeScalars.append(next)
            rest.removeFirst()
        }
        return digits
    }

    private mutating func single() throws(CairnError) -> ModulePattern.Node {
        guard let next = rest.popFirst() else { return .sequence([]) }
        switch next {
        case ".": return .scalar(.any)
        case "^": return .anchor(.start)
        case "$": return .anchor(.end)
        case "(": return try group()
        case "[": return .scalar(try set())
        case "*", "+", "?": throw malformed("nothing to repeat")
        case "\\": return try escape()
        default: return .scalar(.one(next))
        }
    }

    private mutating func group() throws(CairnError) -> ModulePattern.Node {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.greatestDepth else { throw unsupported("groups nested \(depth) deep") }
        var looks: Bool?
        if take("?") {
            switch rest.popFirst() {
            case ":": break
            case "=": looks = true
            case "!": looks = false
            case "P" where take("<"):
                while let next = rest.popFirst(), next != ">" {
                    guard ScalarSet.isWord(next) else { throw malformed("a group's name") }
                }
            case "<": throw unsupported("a look behind")
            case ">": throw unsupported("an atomic group")
            default: throw unsupported("a flag or condition")
            }
        }
        let node = try choice()
        guard take(")") else { throw malformed("a ( without its )") }
        return looks.map { .look(node, fits: $0) } ?? node
    }

    private mutating func escape() throws(CairnError) -> ModulePattern.Node {
        guard let next = rest.popFirst() else { throw malformed("a backslash at the end") }
        switch next {
        case "A": return .anchor(.start)
        case "Z": return .anchor(.veryEnd)
        case "b": return .anchor(.boundary)
        case "B": return .anchor(.noBoundary)
        default: return .scalar(try escaped(next))
        }
    }

    /// What follows a backslash, where it stands for a character or a kind of them.
    private mutating func escaped(_ next: Unicode.Scalar) throws(CairnError) -> ScalarSet {
        switch next {
        case "d": return ScalarSet(kinds: [.digit])
        case "D": return ScalarSet(kinds: [.notDigit])
        case "s": return ScalarSet(kinds: [.space])
        case "S": return ScalarSet(kinds: [.notSpace])
        case "w": return ScalarSet(kinds: [.word])
        case "W": return ScalarSet(kinds: [.notWord])
        case "n": return .one("\n")
        case "t": return .one("\t")
        case "r": return .one("\r")
        case "1"..."9": throw unsupported("a group again")
        case "0", "a"..."z", "A"..."Z": throw unsupported("the escape \\\(next)")
        default: return .one(next)
        }
    }

    private mutating func set() throws(CairnError) -> ScalarSet {
        var result = ScalarSet(isNegated: take("^"))
        var isFirst = true
        while let next = rest.popFirst() {
            if next == "]", !isFirst { return result }
            isFirst = false
            let low = next == "\\" ? try member() : .one(next)
            guard rest.first == "-", rest.dropFirst().first != "]" else {
                result.ranges += low.ranges
                result.kinds += low.kinds
                continue
            }
            rest.removeFirst()
            guard let end = rest.popFirst() else { break }
            let high = end == "\\" ? try member() : .one(end)
            guard let first = low.ranges.first?.lowerBound, let last = high.ranges.first?.upperBound, first <= last else {
                throw malformed("a range of characters")
            }
            result.ranges.append(first...last)
        }
        throw malformed("a [ without its ]")
    }

    private mutating func member() throws(CairnError) -> ScalarSet {
        guard let next = rest.popFirst() else { throw malformed("a backslash at the end") }
        return next == "b" ? .one("\u{8}") : try escaped(next)
    }
}
