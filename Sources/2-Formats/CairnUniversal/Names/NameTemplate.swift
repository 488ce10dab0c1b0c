import CairnBase
import CairnLayout

/// A name with fields: `layers.{n}.attention.{kind:wq|wk|wv}.weight`.
///
/// `{name}` captures one segment (what has no dot in it), `{name**}` one or more, `{name:0..<8}` a number in a range,
/// `{name:a|b}` one of the texts given. `*` and `**` capture without a name. `{n + 4 * pp}` is arithmetic
/// (``IntegerExpression``). A backslash takes the next character as it is.
struct NameTemplate: Sendable, Hashable {
    /// What an field may stand for.
    enum Bound: Sendable, Hashable {
        case segment
        case many
        case range(Arithmetic, Arithmetic)
        case choice([String])
    }

    enum Piece: Sendable, Hashable {
        case literal(String)
        /// A capture of this name.
        case capture(String, Bound)
        /// Arithmetic over captures, parameters and coordinates, and how it was written.
        case expression(Arithmetic, text: String)
    }

    /// As it was written.
    let text: String
    private(set) var pieces: [Piece] = []

    private static let greatestPieceCount = 64

    /// Reads a template.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a brace that does not end, a capture that occurs twice, a
    ///   bound or an invalid expression.
    init(_ text: String) throws(CairnError) {
        self.text = text
        var literal = ""
        var anonymous = 0
        var rest = Array(text.unicodeScalars)[...]
        func flush() {
            if !literal.isEmpty { pieces.append(.literal(literal)) }
            literal = ""
        }
        while let scalar = rest.popFirst() {
            switch scalar {
            case "\\":
                guard let next = rest.popFirst() else { throw Self.error("ends with a backslash", text) }
                literal.unicodeScalars.append(next)
            case "*":
                flush()
                anonymous += 1
                let isMany = rest.first == "*"
                if isMany { rest.removeFirst() }
                pieces.append(.capture("\(anonymous)", isMany ? .many : .segment))
            case "{":
                flush()
                guard let end = rest.firstIndex(of: "}") else { throw Self.error("has a \"{\" without a \"}\"", text) }
                var inside = ""
                inside.unicodeScalars.append(contentsOf: rest[rest.startIndex..<end])
                rest = rest[(end + 1)...]
                pieces.append(try Self.field(inside, of: text))
            case "}": throw Self.error("has a \"}\" without a \"{\"", text)
            default: literal.unicodeScalars.append(scalar)
            }
        }
        flush()
        guard pieces.count <= Self.greatestPieceCount else { throw Self.error("has too many fields", text) }
        let names = captureNames
        guard Set(names).count == names.count else { throw Self.error("has a capture twice", text) }
        guard !text.isEmpty else { throw Self.error("is empty", text) }
    }

    private init(text: String, pieces: [Piece]) {
        self.text = text
        self.pieces = pieces
    }

    /// The same text with other pieces.
    func with(pieces: [Piece]) -> NameTemplate { NameTemplate(text: text, pieces: pieces) }

    /// The names of the captures, in order; `1`, `2`, … for those written `*`.
    var captureNames: [String] {
        pieces.compactMap { if case .capture(let name, _) = $0 { name } else { nil } }
    }

    /// The names in its expressions that may be captures, parameters or coordinates.
    var expressionNames: Set<String> {
        pieces.reduce(into: []) { if case .expression(let tree, _) = $1 { $0.formUnion(tree.names) } }
    }

    /// This template with another in the place of the capture `fqn`: what makes the name of an optimizer's moment.
    func inserting(_ parameter: NameTemplate) throws(CairnError) -> NameTemplate {
        var result: [Piece] = []
        for piece in pieces {
            if case .capture("fqn", _) = piece { result += parameter.pieces } else { result.append(piece) }
        }
        let description = text.replacingFirst("{fqn}", with: parameter.text)
        let names = result.compactMap { piece -> String? in
            if case .capture(let name, _) = piece { name } else { nil }
        }
        guard Set(names).count == names.count else { throw Self.error("has a capture twice", description) }
        return NameTemplate(text: description, pieces: result)
    }

    private static func field(_ inside: String, of text: String) throws(CairnError) -> Piece {
        if let colon = inside.firstIndex(of: ":") {
            let name = inside[..<colon].trimmed, bound = String(inside[inside.index(after: colon)...])
            guard IdentifierText.isName(name) else { throw error("has a capture without a proper name", text) }
            if let range = bound.rangeOfText("..<") {
                return .capture(
                    name,
                    .range(
                        try ArithmeticParser.parse(String(bound[..<range.lowerBound])),
                        try ArithmeticParser.parse(String(bound[range.upperBound...]))))
            }
            let choices = bound.split(separator: "|", omittingEmptySubsequences: false).map(\.trimmed)
            guard !choices.contains("") else { throw error("has a capture with an empty choice", text) }
            return .capture(name, .choice(choices))
        }
        let trimmed = inside[...].trimmed
        if trimmed.hasSuffix("**") {
            let name = trimmed.dropLast(2).trimmed
            guard IdentifierText.isName(name) else { throw error("has a capture without a proper name", text) }
            return .capture(name, .many)
        }
        if IdentifierText.isName(trimmed) { return .capture(trimmed, .segment) }
        return .expression(try ArithmeticParser.parse(trimmed), text: trimmed)
    }

    static func error(_ flaw: String, _ text: String) -> CairnError {
        CairnError(.invalidArgument, "a name pattern \(flaw)", .init(found: text.debugDescription))
    }
}

extension Substring {
    /// Without the spaces at both ends.
    fileprivate var trimmed: String {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}

extension String {
    /// Where `wanted` first occurs.
    fileprivate func rangeOfText(_ wanted: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(wanted) { return start..<index(start, offsetBy: wanted.count) }
            start = index(after: start)
        }
        return nil
    }

    /// The text with the first `wanted` replaced.
    fileprivate func replacingFirst(_ wanted: String, with replacement: String) -> String {
        guard let range = rangeOfText(wanted) else { return self }
        return String(self[..<range.lowerBound]) + replacement + String(self[range.upperBound...])
    }
}

extension NameTemplate {
    /// The name for given captures.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an expression that cannot be evaluated or comes out negative.
    func name(_ captures: [String: String], in context: EvaluationContext) throws(CairnError) -> String {
        var name = ""
        for piece in pieces {
            switch piece {
            case .literal(let text): name += text
            case .capture(let capture, _):
                guard let text = captures[capture] else {
                    throw CairnError(
                        .invalidArgument, "a name pattern has a capture that the other side lacks",
                        .init(found: "{\(capture)} in \(text.debugDescription)"))
                }
                name += text
            case .expression(let tree, _): name += "\(try Self.number(tree, captures, in: context))"
            }
        }
        return name
    }

    /// What an expression comes to.
    static func number(
        _ tree: Arithmetic, _ captures: [String: String], in context: EvaluationContext
    ) throws(CairnError) -> Int {
        let numbers = captures.compactMapValues(CanonicalNumber.parse)
        // A capture that is not a number is as unknown to arithmetic as one that does not exist.
        let form = try LinearForm(tree, captures: Set(numbers.keys), in: context)
        guard let value = form.value(for: numbers), value >= 0 else {
            throw CairnError(.invalidArgument, "an expression in a name comes out negative or too large")
        }
        return value
    }
}

/// What the names in expressions stand for: parameters, the mesh, and a rank's coordinates on it.
struct EvaluationContext {
    var parameters: [String: Int]
    var mesh: DeviceMesh
    /// The rank whose coordinates are meant; `nil` where an expression may not depend on the rank.
    var rank: Int?

    /// The value of a parameter or of a coordinate.
    func value(of name: String) throws(CairnError) -> Int {
        if let value = parameters[name] { return value }
        if mesh.size(of: name) != nil {
            guard let rank, let coordinate = mesh.coordinate(ofRank: rank, along: name) else {
                throw CairnError(
                    .invalidArgument, "an expression depends on the rank where all ranks must agree",
                    .init(found: name.debugDescription, advice: "write \(name).size for the size of the axis"))
            }
            return coordinate
        }
        throw CairnError(
            .invalidArgument, "nothing is called \(name.debugDescription)",
            .init(advice: "it must be a capture of the name, a parameter or a mesh axis"))
    }

    /// The size of an axis.
    func size(of axis: String) throws(CairnError) -> Int {
        guard let size = mesh.size(of: axis) else {
            throw CairnError(
                .invalidArgument, "the mesh has no axis \(axis.debugDescription)",
                .init(found: mesh.axes.map(\.name).joined(separator: ", ")))
        }
        return size
    }

    /// The same for one rank.
    func at(rank: Int) -> EvaluationContext {
        var copy = self
        copy.rank = rank
        return copy
    }

    /// The number that an expression without captures comes to.
    func number(_ expression: IntegerExpression) throws(CairnError) -> Int {
        let parsed = try ArithmeticParser.parse(expression.text)
        do throws(CairnError) {
            return try LinearForm(parsed, captures: [], in: self).constant
        } catch {
            throw error.adding(.init(found: expression.text.debugDescription))
        }
    }

    /// The numbers that expressions come to.
    func numbers(_ expressions: [IntegerExpression]) throws(CairnError) -> [Int] {
        var numbers: [Int] = []
        for expression in expressions { numbers.append(try number(expression)) }
        return numbers
    }

    /// A number that is at least `least`; the error says what it is for.
    func number(_ expression: IntegerExpression, of what: String, atLeast least: Int) throws(CairnError) -> Int {
        let number = try number(expression)
        guard number >= least else {
            throw CairnError(
                .invalidArgument, "\(what) is out of range",
                .init(expected: "at least \(least)", found: "\(expression.text) = \(number)"))
        }
        return number
    }
}
