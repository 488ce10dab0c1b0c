public import CairnBase

/// A pattern of names: `*` stands for any run of characters, dots included, `?` for one character, `[a-c]` for one of a
/// set, `[!a-c]` for one outside it. A backslash takes the next character as it is.
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
    public let text: String
    private let elements: [Element]

    /// Reads a pattern.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a set that does not end or is empty, or a backslash at the
    ///   end.
    public init(_ text: String) throws(CairnError) {
        self.text = text
        var rest = Array(text.unicodeScalars)[...]
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
        self.elements = elements
    }

    /// How many wildcards the pattern has, sets included.
    public var wildcardCount: Int {
        elements.count { if case .literal = $0 { false } else { true } }
    }

    /// Whether the whole name fits.
    public func matches(_ name: String) -> Bool { captures(name) != nil }

    /// What each wildcard stands for, from left to right, or `nil` if the name does not fit. Each `*` takes as little
    /// as it can.
    public func captures(_ name: String) -> [String]? {
        let scalars = Array(name.unicodeScalars)
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

    private static func error(_ flaw: String, _ text: String) -> CairnError {
        CairnError(.invalidArgument, "the pattern \(flaw)", .init(found: text.debugDescription))
    }
}

extension GlobPattern: CustomStringConvertible {
    public var description: String { text }
}
