public import CairnBase

/// Something about a specification and a checkpoint that do not fit each other.
public struct RuleProblem: Sendable, CustomStringConvertible {
    /// The rule, if it is one rule's matter: `rule "qkv"`, with the moment in parentheses.
    public var rule: String?
    /// What is wrong, with the tensor and what to do.
    public var error: CairnError

    init(_ rule: String?, _ error: CairnError) {
        self.rule = rule
        var error = error
        if let rule, !error.message.hasPrefix(rule) {
            error = CairnError(error.code, "\(rule): \(error.message)", error.context, cause: error.cause)
        }
        self.error = error
    }

    public var description: String { error.description }
}

extension [RuleProblem] {
    /// The first of them, which says how many there are.
    func firstError() -> CairnError? {
        guard var error = first?.error else { return nil }
        if count > 1 {
            let note = "\(count - 1) more \(count == 2 ? "problem" : "problems"): `cairn rules check` lists them"
            error.context.advice = error.context.advice.map { $0 + "; " + note } ?? note
        }
        return error
    }
}
