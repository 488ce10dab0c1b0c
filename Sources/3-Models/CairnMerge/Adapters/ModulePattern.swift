package import CairnBase

/// A regular expression of Python's `re`, as PEFT's configurations hold them, that is matched against names of modules.
///
/// Only whether it fits is asked, never by which way; so it is followed along all ways at once, in time that is bounded by
/// the pattern's length times the square of the name's. What looks at groups again (`\1`), looks back or changes the rules
/// (`(?i)`) is refused.
package struct ModulePattern: Sendable, Hashable {
    /// As it was written.
    package let text: String
    private let node: Node

    indirect enum Node: Sendable, Hashable {
        case scalar(ScalarSet)
        case sequence([Node])
        case choice([Node])
        case repetition(Node, least: Int, most: Int?)
        case anchor(Anchor)
        case look(Node, fits: Bool)
    }

    enum Anchor: Sendable, Hashable {
        case start, end, veryEnd, boundary, noBoundary
    }

    /// - Throws: ``CairnError/Code/malformed`` for what Python refuses too, ``CairnError/Code/unsupported`` for what is
    ///   not followed here.
    package init(_ text: String) throws(CairnError) {
        self.text = text
        var parser = ModulePatternParser(text)
        node = try parser.parse()
    }

    /// Whether it fits the whole name: Python's `re.fullmatch`.
    package func fitsWhole(_ name: ModuleName) -> Bool {
        Self.ends(of: node, from: [0], in: name.scalars).contains(name.scalars.count)
    }

    /// Whether it fits the name or its last parts: Python's `re.match(rf"(.*\.)?({pattern})$", name)`.
    package func fitsEnd(_ name: ModuleName) -> Bool {
        let count = name.scalars.count
        // Most patterns are names: they can begin in one place only.
        if let length = fixedLength {
            let begin = count - length
            guard begin == 0 || begin > 0 && name.scalars[begin - 1] == "." else { return false }
            return !Self.ends(of: node, from: [begin], in: name.scalars).isEmpty
        }
        return Self.ends(of: node, from: name.begins, in: name.scalars).contains(count)
    }

    /// Where it ends that begins at the name or one of its parts, for each begin.
    func fits(_ name: ModuleName) -> [(begin: Int, ends: [Int])] {
        name.begins.map { ($0, Self.ends(of: node, from: [$0], in: name.scalars)) }
    }

    /// How many characters it fits, if it is nothing but characters.
    private var fixedLength: Int? {
        switch node {
        case .scalar: return 1
        case .sequence(let parts):
            let isFixed = parts.allSatisfy { if case .scalar = $0 { true } else { false } }
            return isFixed ? parts.count : nil
        default: return nil
        }
    }

    /// All places where a match that begins in one of `begins` can end, in order.
    private static func ends(of node: Node, from begins: [Int], in name: [Unicode.Scalar]) -> [Int] {
        guard !begins.isEmpty else { return [] }
        switch node {
        case .scalar(let set):
            return begins.compactMap { $0 < name.count && set.contains(name[$0]) ? $0 + 1 : nil }
        case .sequence(let parts):
            return parts.reduce(begins) { ends(of: $1, from: $0, in: name) }
        case .choice(let ways):
            return merged(ways.flatMap { ends(of: $0, from: begins, in: name) })
        case .anchor(let anchor):
            return begins.filter { fits(anchor, at: $0, in: name) }
        case .look(let inner, let fits):
            return begins.filter { ends(of: inner, from: [$0], in: name).isEmpty != fits }
        case .repetition(let inner, let least, let most):
            var current = begins
            var count = 0
            while count < least, !current.isEmpty {
                let next = ends(of: inner, from: current, in: name)
                count += 1
                // Going round without getting further: so it stays, however often.
                if next == current { break }
                current = next
            }
            var reached = Set(current)
            while !current.isEmpty, most.map({ count < $0 }) ?? true {
                current = ends(of: inner, from: current, in: name).filter { reached.insert($0).inserted }
                count += 1
            }
            return reached.sorted()
        }
    }

    private static func merged(_ positions: [Int]) -> [Int] { Array(Set(positions)).sorted() }

    private static func fits(_ anchor: Anchor, at position: Int, in name: [Unicode.Scalar]) -> Bool {
        switch anchor {
        case .start: return position == 0
        case .veryEnd: return position == name.count
        case .end: return position == name.count || position == name.count - 1 && name[position] == "\n"
        case .boundary, .noBoundary:
            let before = position > 0 && ScalarSet.isWord(name[position - 1])
            let after = position < name.count && ScalarSet.isWord(name[position])
            return (before != after) == (anchor == .boundary)
        }
    }
}

/// A module's name, taken apart once for many patterns.
package struct ModuleName {
    let scalars: [Unicode.Scalar]
    /// Where it and its parts begin.
    let begins: [Int]

    package init(_ name: String) {
        let scalars = Array(name.unicodeScalars)
        self.scalars = scalars
        begins = [0] + scalars.indices.filter { scalars[$0] == "." }.map { $0 + 1 }
    }
}

/// Characters that fit one place of a pattern.
struct ScalarSet: Sendable, Hashable {
    enum Kind: Sendable, Hashable {
        case digit, space, word, notDigit, notSpace, notWord
    }

    var ranges: [ClosedRange<UInt32>] = []
    var kinds: [Kind] = []
    var isNegated = false

    /// Any but a line's end.
    static let any = ScalarSet(ranges: [10...10], isNegated: true)

    static func one(_ scalar: Unicode.Scalar) -> ScalarSet { ScalarSet(ranges: [scalar.value...scalar.value]) }

    func contains(_ scalar: Unicode.Scalar) -> Bool {
        let isListed = ranges.contains { $0.contains(scalar.value) } || kinds.contains { Self.fits($0, scalar) }
        return isListed != isNegated
    }

    static func isWord(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber,
            .letterNumber, .otherNumber:
            true
        default: scalar == "_"
        }
    }

    private static func fits(_ kind: Kind, _ scalar: Unicode.Scalar) -> Bool {
        switch kind {
        case .digit: scalar.properties.generalCategory == .decimalNumber
        case .notDigit: scalar.properties.generalCategory != .decimalNumber
        case .space: isSpace(scalar)
        case .notSpace: !isSpace(scalar)
        case .word: isWord(scalar)
        case .notWord: !isWord(scalar)
        }
    }

    /// Python counts the separators of ASCII as well.
    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isWhitespace || (0x1c...0x1f).contains(scalar.value)
    }
}
