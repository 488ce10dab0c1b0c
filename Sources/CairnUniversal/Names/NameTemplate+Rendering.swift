import CairnBase

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
