public import CairnBase

/// A pattern of names: `*` stands for any run of characters, dots included, `?` for one character, `[a-c]` for one of a
/// set, `[!a-c]` for one outside it. `{a,b}` is one of several texts, `{8..11}` one of the whole numbers from 8 to 11; braces
/// around anything else stand for themselves. A backslash takes the next character as it is.
///
/// Names are compared by Unicode scalars, so two spellings of an accented letter differ.
public struct GlobPattern: Sendable, Hashable {
    private enum Element: Sendable, Hashable {
        case literal(Unicode.Scalar)
        case any
        case run
        case set([ClosedRange<Unicode.Scalar>], isNegated: Bool)

        func matches(_ scalar: Unicode.Scalar) -> Bool {
            switch self {
            case .literal(let literal): literal == scalar
            case .any: true
            case .run: false
            case .set(let ranges, let isNegated): ranges.contains { $0.contains(scalar) } != isNegated
            }
        }
    }

    /// The pattern as it was written.
    package let text: String
    /// What the pattern is with one choice made for each of its braces: as many wildcards in each.
    private let alternatives: [[Element]]

    /// Reads a pattern.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a set that does not end or is empty, a range that runs backwards,
    ///   choices with different numbers of wildcards or too many of them, or a backslash at the end.
    public init(_ text: String) throws(CairnError) {
        self.text = text
        var alternatives: [[Element]] = []
        for choice in try BraceChoices.expand(text) { alternatives.append(try Self.elements(choice, of: text)) }
        let count = alternatives.first.map(Self.wildcardCount)
        guard alternatives.allSatisfy({ Self.wildcardCount($0) == count }) else {
            throw Self.error("has choices in braces with different numbers of wildcards", text)
        }
        self.alternatives = alternatives
    }

    private static func elements(_ choice: [Unicode.Scalar], of text: String) throws(CairnError) -> [Element] {
        var rest = choice[...]
        var elements: [Element] = []
        while let scalar = rest.popFirst() {
            switch scalar {
            case "*": elements.append(.run)
            case "?": elements.append(.any)
            case "[": elements.append(try Self.set(&rest, of: text))
            case "\\":
                guard let literal = rest.popFirst() else { throw Self.error("ends with a backslash", text) }
                elements.append(.literal(literal))
            default: elements.append(.literal(scalar))
            }
        }
        return elements
    }

    /// How many wildcards the pattern has, sets included, braces not.
    package var wildcardCount: Int { alternatives.first.map(Self.wildcardCount) ?? 0 }

    private static func wildcardCount(_ elements: [Element]) -> Int {
        elements.count { if case .literal = $0 { false } else { true } }
    }

    /// Whether the whole name fits.
    package func matches(_ name: String) -> Bool { captures(name) != nil }

    /// What each wildcard stands for, from left to right, or `nil` if the name does not fit. Each `*` takes as little
    /// as it can; of choices in braces the first that fits counts.
    package func captures(_ name: String) -> [String]? {
        let scalars = Array(name.unicodeScalars)
        return alternatives.lazy.compactMap { Self.captures($0, scalars) }.first
    }

    private static func captures(_ elements: [Element], _ scalars: [Unicode.Scalar]) -> [String]? {
        var begins = [Int](repeating: 0, count: elements.count)
        var element = 0, position = 0
        // The last `*` so far: only it ever has to take more, because what stands before it has found its first place.
        var lastRun: Int?
        var lastEnd = 0
        while position < scalars.count || element < elements.count {
            if element < elements.count {
                begins[element] = position
                if elements[element] == .run {
                    lastRun = element
                    lastEnd = position
                    element += 1
                    continue
                }
                if position < scalars.count, elements[element].matches(scalars[position]) {
                    element += 1
                    position += 1
                    continue
                }
            }
            guard let run = lastRun, lastEnd < scalars.count else { return nil }
            lastEnd += 1
            position = lastEnd
            element = run + 1
        }
        var texts: [String] = []
        for (index, element) in elements.enumerated() {
            if case .literal = element { continue }
            let end = index + 1 < elements.count ? begins[index + 1] : scalars.count
            var text = String.UnicodeScalarView()
            text.append(contentsOf: scalars[begins[index]..<end])
            texts.append(String(text))
        }
        return texts
    }

    private static func set(
        _ rest: inout ArraySlice<Unicode.Scalar>, of text: String
    ) throws(CairnError) -> Element {
        var isNegated = false
        if rest.first == "!" || rest.first == "^" {
            rest.removeFirst()
            isNegated = true
        }
        var ranges: [ClosedRange<Unicode.Scalar>] = []
        while true {
            guard var first = rest.popFirst() else { throw error("has a \"[\" without a \"]\"", text) }
            // A bracket that comes first is one of the set, as in shells.
            if first == "]", !ranges.isEmpty { return .set(ranges, isNegated: isNegated) }
            if first == "\\", let literal = rest.popFirst() { first = literal }
            var last = first
            let next = rest.dropFirst().first
            if rest.first == "-", let next, next != "]" {
                rest.removeFirst(2)
                last = next
            }
            guard first <= last else { throw error("has a range that runs backwards", text) }
            ranges.append(first...last)
        }
    }

    fileprivate static func error(_ flaw: String, _ text: String) -> CairnError {
        CairnError(.invalidArgument, "the pattern \(flaw)", .init(found: text.debugDescription))
    }
}

extension GlobPattern: CustomStringConvertible {
    public var description: String { text }
}

/// The choices that braces in a pattern give, as in shells.
private enum BraceChoices {
    /// More choices than any list of layers or experts has.
    private static let greatestCount = 10_000

    /// The pattern with each choice made, in order; itself where it has no braces.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a range that runs backwards and for too many choices.
    static func expand(_ text: String) throws(CairnError) -> [[Unicode.Scalar]] {
        var finished: [[Unicode.Scalar]] = [], open = [(scalars: Array(text.unicodeScalars), from: 0)]
        while let (scalars, from) = open.popLast() {
            guard let (range, choices) = try firstList(in: scalars, from: from, of: text) else {
                finished.append(scalars)
                continue
            }
            guard finished.count + open.count + choices.count <= greatestCount else {
                throw GlobPattern.error("has more than \(greatestCount) choices in braces", text)
            }
            // Choices may have braces themselves: they are looked at again, in order.
            for choice in choices.reversed() {
                open.append((scalars[..<range.lowerBound] + choice + scalars[range.upperBound...], range.lowerBound))
            }
        }
        return finished
    }

    /// The first braces that list choices, from a place on.
    private static func firstList(
        in scalars: [Unicode.Scalar], from: Int, of text: String
    ) throws(CairnError) -> (range: Range<Int>, choices: [[Unicode.Scalar]])? {
        var index = from
        while index < scalars.count {
            switch scalars[index] {
            case "\\": index += 1
            case "[":
                // What is in a set stands for itself; a bracket that comes first is one of the set.
                var end = index + 1
                if end < scalars.count, scalars[end] == "!" || scalars[end] == "^" { end += 1 }
                end += 1
                while end < scalars.count, scalars[end] != "]" { end += scalars[end] == "\\" ? 2 : 1 }
                index = end
            case "{":
                if let end = self.end(of: index, in: scalars),
                    let choices = try choices(Array(scalars[index + 1..<end]), of: text)
                {
                    return (index..<end + 1, choices)
                }
            default: break
            }
            index += 1
        }
        return nil
    }

    /// Where the brace is that closes the one at `start`.
    private static func end(of start: Int, in scalars: [Unicode.Scalar]) -> Int? {
        var depth = 0, index = start
        while index < scalars.count {
            switch scalars[index] {
            case "\\": index += 1
            case "{": depth += 1
            case "}":
                depth -= 1
                if depth == 0 { return index }
            default: break
            }
            index += 1
        }
        return nil
    }

    /// What stands between braces, as choices; `nil` where it is no list of any.
    private static func choices(_ body: [Unicode.Scalar], of text: String) throws(CairnError) -> [[Unicode.Scalar]]? {
        var parts: [[Unicode.Scalar]] = [[]]
        var depth = 0, isEscaped = false
        for scalar in body {
            if scalar == ",", depth == 0, !isEscaped {
                parts.append([])
                continue
            }
            if !isEscaped { depth += scalar == "{" ? 1 : scalar == "}" ? -1 : 0 }
            isEscaped = scalar == "\\" && !isEscaped
            parts[parts.count - 1].append(scalar)
        }
        if parts.count > 1 { return parts }
        var word = String.UnicodeScalarView()
        word.append(contentsOf: body)
        let ends = String(word).split(separator: "..", omittingEmptySubsequences: false)
        guard ends.count == 2, let first = number(ends[0]), let last = number(ends[1]) else { return nil }
        guard first <= last else { throw GlobPattern.error("has a range that runs backwards", text) }
        guard last - first < greatestCount else {
            throw GlobPattern.error("has more than \(greatestCount) choices in braces", text)
        }
        return (first...last).map { Array(String($0).unicodeScalars) }
    }

    private static func number(_ text: Substring) -> Int? {
        text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
    }
}
