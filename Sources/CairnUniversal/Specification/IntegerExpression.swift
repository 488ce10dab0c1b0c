/// A whole number of a rule, written as arithmetic: `heads / groups * head_dim`, `n + pp * layers / pp.size`.
///
/// Numbers, the specification's parameters, the size of a mesh axis (`tp.size`), this rank's coordinate on it (`tp`),
/// captures of the name, `+ - * /`, parentheses, `roundup(x, m)` (the next multiple of m). Division must come out even:
/// a division with a remainder is an error. Products are taken left to right.
public struct IntegerExpression: Sendable, Hashable {
    /// As it was written.
    public let text: String

    /// An expression; it is read when its specification is.
    public init(_ text: String) { self.text = text }
}

extension IntegerExpression: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
    public init(integerLiteral value: Int) { text = String(value) }
    public init(stringLiteral value: String) { text = value }
}

extension IntegerExpression: CustomStringConvertible {
    public var description: String { text }
}
