public import CairnBase
import CairnTensor

/// Some of the tensors and values of another checkpoint.
///
/// A tensor that is tied to one that is left out becomes one by itself.
public struct SelectedReader: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    private let selects: @Sendable (String) -> Bool

    /// Selects what fits one of the patterns in `include`, or everything if there are none, and none of those in
    /// `exclude`.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid pattern, ``CairnError/Code/notFound`` for one
    ///   that fits no name of the checkpoint.
    public init(
        _ base: any CheckpointReader, include: [String] = [], exclude: [String] = []
    ) throws(CairnError) {
        let names = base.tensors.map(\.name) + base.values.map(\.name)
        let included = try PatternList(include, applyingTo: names, of: base.source, orRanksOf: base)
        let excluded = try PatternList(exclude, applyingTo: names, of: base.source, orRanksOf: base)
        self.init(base) { name in (included.isEmpty || included.match(name)) && !excluded.match(name) }
    }

    /// Selects tensors and values by their names.
    package init(_ base: any CheckpointReader, where selects: @escaping @Sendable (String) -> Bool) {
        self.base = base
        self.selects = selects
        tensors = base.tensors.filter { selects($0.name) }
            .map { ViewedTensor(description: $0, originalName: $0.name) }
            .retied(below: base.tensors).map(\.description)
        values = base.values.filter { selects($0.name) }
    }

    public var structure: StateNode? {
        let names = Set(tensors.map { ExactString($0.name) })
        let kept = Set(values.map { ExactString($0.name) })
        return base.structure?.selecting(
            tensor: { names.contains(ExactString($0)) }, value: { kept.contains(ExactString($0)) })
    }

    public func rankValues() throws(CairnError) -> [RankValues] { try base.rankValues().filtered(selects) }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? {
        guard let own = try base.rankValues(ofRank: rank) else { return nil }
        return [own].filtered(selects).first
    }

    public func baseName(of name: String) throws(CairnError) -> String? { try description(of: name).name }

    /// Verifies all of the base; damage of tensors that are left out is none of the selection's.
    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = try base.verify(deep: deep, progress: progress)
        let stored = try Set(tensors.map { ExactString(try base.description(of: $0.name).tiedTo ?? $0.name) })
        report.damages.removeAll { damage in
            damage.error.context.tensor.map { !stored.contains(ExactString($0)) } ?? false
        }
        return report
    }
}

/// Patterns each of which fits something: one that does not is a mistake in the pattern.
struct PatternList: Sendable {
    private let patterns: [GlobPattern]

    var isEmpty: Bool { patterns.isEmpty }

    /// - Parameter reader: Whose single ranks' values may fit what no name does.
    init(
        _ texts: [String], applyingTo names: [String], of source: String, orRanksOf reader: (any CheckpointReader)? = nil
    ) throws(CairnError) {
        var patterns: [GlobPattern] = []
        var ofRanks: [String]?
        for text in texts {
            let pattern = try GlobPattern(text)
            var fits = names.contains(where: pattern.matches)
            if !fits, let reader {
                if ofRanks == nil { ofRanks = try reader.rankValues().flatMap { $0.values.map(\.name) } }
                fits = ofRanks?.contains(where: pattern.matches) ?? false
            }
            guard fits else {
                throw CairnError(
                    .notFound, "a pattern fits no name of the checkpoint",
                    .init(file: source, found: text.debugDescription, advice: "list the names and correct it"))
            }
            patterns.append(pattern)
        }
        self.patterns = patterns
    }

    /// Whether any of them fits.
    func match(_ name: String) -> Bool { patterns.contains { $0.matches(name) } }
}

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
    package let text: String
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
    package var wildcardCount: Int {
        elements.count { if case .literal = $0 { false } else { true } }
    }

    /// Whether the whole name fits.
    package func matches(_ name: String) -> Bool { captures(name) != nil }

    /// What each wildcard stands for, from left to right, or `nil` if the name does not fit. Each `*` takes as little
    /// as it can.
    package func captures(_ name: String) -> [String]? {
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
