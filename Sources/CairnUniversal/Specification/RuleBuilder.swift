/// Collects what stands in the braces of a ``Rule``.
@resultBuilder
public enum RuleBuilder {
    public static func buildExpression(_ element: any RuleElement) -> [any RuleElement] { [element] }
    public static func buildPartialBlock(first: [any RuleElement]) -> [any RuleElement] { first }
    public static func buildPartialBlock(
        accumulated: [any RuleElement], next: [any RuleElement]
    ) -> [any RuleElement] { accumulated + next }
    public static func buildBlock() -> [any RuleElement] { [] }
    public static func buildOptional(_ elements: [any RuleElement]?) -> [any RuleElement] { elements ?? [] }
    public static func buildEither(first elements: [any RuleElement]) -> [any RuleElement] { elements }
    public static func buildEither(second elements: [any RuleElement]) -> [any RuleElement] { elements }
    public static func buildArray(_ elements: [[any RuleElement]]) -> [any RuleElement] { elements.flatMap { $0 } }
}

/// What stands in the braces of a ``UniversalSpec``: rules, moments, flat buffers.
public protocol SpecificationElement: Sendable {
    /// Adds it to the specification.
    func add(to specification: inout UniversalSpec)
}

extension Rule: SpecificationElement {
    public func add(to specification: inout UniversalSpec) { specification.rules.append(self) }
}

extension Moment: SpecificationElement {
    public func add(to specification: inout UniversalSpec) { specification.moments.append(self) }
}

extension FlatBuffer: SpecificationElement {
    public func add(to specification: inout UniversalSpec) { specification.buffers.append(self) }
}

/// Collects what stands in the braces of a ``UniversalSpec``.
@resultBuilder
public enum SpecificationBuilder {
    public static func buildExpression(_ element: any SpecificationElement) -> [any SpecificationElement] { [element] }
    public static func buildPartialBlock(
        first: [any SpecificationElement]
    ) -> [any SpecificationElement] { first }
    public static func buildPartialBlock(
        accumulated: [any SpecificationElement], next: [any SpecificationElement]
    ) -> [any SpecificationElement] { accumulated + next }
    public static func buildBlock() -> [any SpecificationElement] { [] }
    public static func buildOptional(
        _ elements: [any SpecificationElement]?
    ) -> [any SpecificationElement] { elements ?? [] }
    public static func buildEither(
        first elements: [any SpecificationElement]
    ) -> [any SpecificationElement] { elements }
    public static func buildEither(
        second elements: [any SpecificationElement]
    ) -> [any SpecificationElement] { elements }
    public static func buildArray(_ elements: [[any SpecificationElement]]) -> [any SpecificationElement] {
        elements.flatMap { $0 }
    }
}
