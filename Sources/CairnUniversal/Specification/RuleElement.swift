/// What stands in the braces of a ``Rule``.
public protocol RuleElement: Sendable {
    /// Adds it to the rule.
    func apply(to rule: inout Rule)
}

/// What one mesh axis does; the order of these is the order of sharding.
public struct On: RuleElement, Hashable {
    /// The mesh axis.
    public var axis: String
    /// What it does.
    public var placement: PlacementRule

    public init(_ axis: String, _ placement: PlacementRule) {
        self.axis = axis
        self.placement = placement
    }

    public func apply(to rule: inout Rule) { rule.placement.append(self) }
}

/// A transform; the order of these is the order in which they are applied.
public struct Apply: RuleElement {
    /// The transform.
    public var transform: RuleTransform

    public init(_ transform: RuleTransform) { self.transform = transform }

    public func apply(to rule: inout Rule) { rule.transforms.append(transform) }
}

/// The shape of the whole foreign tensor.
public struct WholeShape: RuleElement {
    /// Outermost first.
    public var extents: [IntegerExpression]

    public init(_ extents: IntegerExpression...) { self.extents = extents }

    public func apply(to rule: inout Rule) { rule.shape = extents }
}

/// Names that fit the rule and are not meant.
public struct Except: RuleElement {
    /// Patterns of foreign names.
    public var patterns: [String]

    public init(_ patterns: String...) { self.patterns = patterns }

    public func apply(to rule: inout Rule) { rule.except += patterns }
}

/// Which moments go the same way.
public struct WithMoments: RuleElement {
    /// Which.
    public var moments: Rule.Moments

    public init(_ moments: Rule.Moments) { self.moments = moments }

    public func apply(to rule: inout Rule) { rule.moments = moments }
}

/// The tensor is a copy of another logical one.
public struct Tied: RuleElement {
    /// The pattern of that one's name.
    public var target: String

    public init(to target: String) { self.target = target }

    public func apply(to rule: inout Rule) { rule.outcome = .tie(to: target) }
}
