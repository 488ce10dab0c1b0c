/// What one kind of foreign tensor is: which names it has, how it lies on the mesh, what it becomes.
///
/// ```swift
/// Rule("qkv", from: "layers.{n}.qkv.weight", to: ["layers.{n}.q", "layers.{n}.k", "layers.{n}.v"]) {
///     On("tp", .shard(0, unit: "head_dim"))
///     Apply(.split(dimension: 0))
/// }
/// ```
public struct Rule: Sendable, Hashable {
    /// What the rule makes of its tensors.
    package enum Outcome: Sendable, Hashable {
        /// Logical tensors of their own.
        case tensors
        /// A second copy of the logical tensor of this name, which must be equal to it.
        case tie(to: String)
        /// Nothing. One-way.
        case drop
    }

    /// Which of the specification's moments the rule's tensors have.
    public enum Moments: Sendable, Hashable {
        case all
        case only([String])

        /// None: buffers, and what is not trained.
        public static let none = Moments.only([])
    }

    /// How messages call the rule.
    package var name: String
    /// Patterns of the foreign names (``UniversalSpec`` has the grammar), one for each tensor that goes in.
    package var from: [String]
    /// Patterns of the logical names, one for each tensor that comes out; empty when dropped.
    package var to: [String]
    /// Names that fit `from` and are not meant all the same.
    package var except: [String] = []
    /// How the foreign tensors lie on the mesh: steps in the order of application. Axes not named replicate, or are
    /// where the logical name's arithmetic says.
    package var placement: [On] = []
    /// What is done to the gathered tensors.
    package var transforms: [RuleTransform] = []
    /// What they become.
    package var outcome: Outcome = .tensors
    /// The shape of the whole foreign tensor, where flattened shards do not tell it.
    package var shape: [IntegerExpression]?
    /// Whether the rule may match nothing.
    package var isOptional = false
    /// Whether the rule is skipped when a logical checkpoint is sharded: it reads another spelling of names that
    /// another rule writes.
    package var isForGatheringOnly = false
    /// Which optimizer moments go the same way.
    package var moments: Moments = .all

    /// A rule for tensors that go in and come out under these names.
    public init(
        _ name: String, from: [String], to: [String], @RuleBuilder _ content: () -> [any RuleElement] = { [] }
    ) {
        self.name = name
        self.from = from
        self.to = to
        for element in content() { element.apply(to: &self) }
    }

    /// A rule for one tensor that becomes one.
    public init(_ name: String, from: String, to: String, @RuleBuilder _ content: () -> [any RuleElement] = { [] }) {
        self.init(name, from: [from], to: [to], content)
    }

    /// A rule for one tensor that becomes several.
    public init(_ name: String, from: String, to: [String], @RuleBuilder _ content: () -> [any RuleElement] = { [] }) {
        self.init(name, from: [from], to: to, content)
    }

    /// A rule for several tensors that become one.
    public init(_ name: String, from: [String], to: String, @RuleBuilder _ content: () -> [any RuleElement] = { [] }) {
        self.init(name, from: from, to: [to], content)
    }

    /// A rule for tensors that are not wanted.
    public static func drop(_ name: String, from: String, moments: Moments = .none) -> Rule {
        var rule = Rule(name, from: [from], to: [])
        rule.outcome = .drop
        rule.moments = moments
        return rule
    }

    /// The same rule, which may match nothing.
    public var optional: Rule {
        var rule = self
        rule.isOptional = true
        return rule
    }

    /// The same rule, which sharding skips: for another spelling of names that a rule already writes.
    public var forGatheringOnly: Rule {
        var rule = self
        rule.isForGatheringOnly = true
        return rule
    }
}

/// What stands in the braces of a ``Rule``.
public protocol RuleElement: Sendable {
    /// Adds it to the rule.
    func apply(to rule: inout Rule)
}

/// What one mesh axis does; the order of these is the order of sharding.
public struct On: RuleElement, Hashable {
    /// The mesh axis.
    package var axis: String
    /// What it does.
    package var placement: PlacementRule

    public init(_ axis: String, _ placement: PlacementRule) {
        self.axis = axis
        self.placement = placement
    }

    public func apply(to rule: inout Rule) { rule.placement.append(self) }
}

/// A transform; the order of these is the order in which they are applied.
public struct Apply: RuleElement {
    /// The transform.
    package var transform: RuleTransform

    public init(_ transform: RuleTransform) { self.transform = transform }

    public func apply(to rule: inout Rule) { rule.transforms.append(transform) }
}

/// The shape of the whole foreign tensor.
public struct WholeShape: RuleElement {
    /// Outermost first.
    package var extents: [IntegerExpression]

    public init(_ extents: IntegerExpression...) { self.extents = extents }

    public func apply(to rule: inout Rule) { rule.shape = extents }
}

/// Names that fit the rule and are not meant.
public struct Except: RuleElement {
    /// Patterns of foreign names.
    package var patterns: [String]

    public init(_ patterns: String...) { self.patterns = patterns }

    public func apply(to rule: inout Rule) { rule.except += patterns }
}

/// Which moments go the same way.
public struct WithMoments: RuleElement {
    /// Which.
    package var moments: Rule.Moments

    public init(_ moments: Rule.Moments) { self.moments = moments }

    public func apply(to rule: inout Rule) { rule.moments = moments }
}

/// The tensor is a copy of another logical one.
public struct Tied: RuleElement {
    /// The pattern of that one's name.
    package var target: String

    public init(to target: String) { self.target = target }

    public func apply(to rule: inout Rule) { rule.outcome = .tie(to: target) }
}

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
