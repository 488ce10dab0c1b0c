public import CairnBase
import CairnTensor

/// Another checkpoint under other names.
public struct RenamedReader: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    /// Parallel to `tensors`.
    private let originalNames: [String]
    /// By the new names.
    private let originalValueNames: [ExactString: String]
    private let rules: [RenameRule]

    /// Renames each tensor and value by the first rule whose pattern fits; the others keep their names.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a rule that renames nothing, ``CairnError/Code/mismatch`` when two
    ///   would get the same name.
    public init(_ base: any CheckpointReader, rules: [RenameRule]) throws(CairnError) {
        self.base = base
        var originals: [ExactString: String] = [:]
        var isUsed = [Bool](repeating: false, count: rules.count)
        func rename(_ name: String) throws(CairnError) -> String {
            var renamed = name
            for (index, rule) in rules.enumerated() {
                guard let found = rule.apply(to: name) else { continue }
                isUsed[index] = true
                renamed = found
                break
            }
            if let other = originals.updateValue(name, forKey: ExactString(renamed)) {
                throw CairnError(
                    .mismatch, "\"\(other)\" and \"\(name)\" would both be named \"\(renamed)\"",
                    .init(file: base.source, tensor: name))
            }
            return renamed
        }
        var viewed: [ViewedTensor] = []
        for tensor in base.tensors {
            var description = tensor
            description.name = try rename(tensor.name)
            viewed.append(ViewedTensor(description: description, originalName: tensor.name))
        }
        var values: [NamedValue] = []
        var valueNames: [ExactString: String] = [:]
        for named in base.values {
            let name = try rename(named.name)
            valueNames[ExactString(name)] = named.name
            values.append(NamedValue(name: name, value: named.value))
        }
        originalValueNames = valueNames
        self.rules = rules
        if isUsed.contains(false) {
            for name in try base.rankValues().flatMap({ $0.values.map(\.name) }) {
                if let index = rules.firstIndex(where: { $0.apply(to: name) != nil }) { isUsed[index] = true }
            }
        }
        if let index = isUsed.firstIndex(of: false) {
            throw CairnError(
                .notFound, "a pattern fits no name of the checkpoint that is not renamed already",
                .init(file: base.source, found: rules[index].pattern.text.debugDescription))
        }
        viewed = viewed.retied(below: base.tensors)
        tensors = viewed.map(\.description)
        originalNames = viewed.map(\.originalName)
        self.values = values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    /// Names are what renaming is about, so tensors lie flat under theirs; values stay what they were.
    public var structure: StateNode? {
        base.structure.map { structure in
            StateNode(flat: tensors, values: values, of: structure) { originalValueNames[ExactString($0)] ?? $0 }
        }
    }

    public func rankValues() throws(CairnError) -> [RankValues] {
        try base.rankValues().map { own throws(CairnError) in try renamed(own) }
    }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? {
        guard let own = try base.rankValues(ofRank: rank) else { return nil }
        return try renamed(own)
    }

    private func renamed(_ own: RankValues) throws(CairnError) -> RankValues {
        var own = own
        var names = Set<ExactString>()
        for index in own.values.indices {
            let name = own.values[index].name
            let renamed = rules.lazy.compactMap { $0.apply(to: name) }.first ?? name
            guard names.insert(ExactString(renamed)).inserted else {
                throw CairnError(
                    .mismatch, "two values of a rank would both be named \"\(renamed)\"",
                    .init(file: source, tensor: name, rank: own.rank))
            }
            own.values[index].name = renamed
        }
        own.values.sort { ExactString($0.name) < ExactString($1.name) }
        return own
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        originalNames[try tensors.requiredPosition(of: name, in: source)]
    }
}

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
    package let pattern: GlobPattern
    /// The replacement as it was written.
    package let replacement: String
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
    package func apply(to name: String) -> String? {
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

/// A tensor of a view, and what it is in the checkpoint below.
package struct ViewedTensor {
    /// What the view lists.
    package var description: TensorDescription
    /// Its name below.
    package var originalName: String

    package init(description: TensorDescription, originalName: String) {
        self.description = description
        self.originalName = originalName
    }
}

/// What tensors of a view have in common that can be one.
private struct TensorIdentity: Hashable {
    var root: ExactString
    var scalarType: ScalarType
}

extension [ViewedTensor] {
    /// The tensors sorted by name, and tied anew: those that are one tensor below and have one type here stay one.
    ///
    /// The name that keeps the bytes is the one that does below, or if it is gone the first that is left.
    ///
    /// - Parameter below: The tensors of the checkpoint below.
    package func retied(below: [TensorDescription]) -> [ViewedTensor] {
        func identity(_ tensor: ViewedTensor) -> TensorIdentity {
            let original = below.position(of: tensor.originalName).map { below[$0] }
            return TensorIdentity(
                root: ExactString(original?.tiedTo ?? tensor.originalName), scalarType: tensor.description.scalarType)
        }
        var tensors = sorted { ExactString($0.description.name) < ExactString($1.description.name) }
        var kept: [TensorIdentity: String] = [:]
        for tensor in tensors {
            let identity = identity(tensor)
            if kept[identity] == nil || ExactString(tensor.originalName) == identity.root {
                kept[identity] = tensor.description.name
            }
        }
        for index in tensors.indices {
            let name = kept[identity(tensors[index])]
            let isKept = name.map { ExactString($0) == ExactString(tensors[index].description.name) } ?? true
            tensors[index].description.tiedTo = isKept ? nil : name
        }
        return tensors
    }
}
