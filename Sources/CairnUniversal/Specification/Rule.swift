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
    public enum Outcome: Sendable, Hashable {
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
    public var name: String
    /// Patterns of the foreign names (``UniversalSpec`` has the grammar), one for each tensor that goes in.
    public var from: [String]
    /// Patterns of the logical names, one for each tensor that comes out; empty when dropped.
    public var to: [String]
    /// Names that fit `from` and are not meant all the same.
    public var except: [String] = []
    /// How the foreign tensors lie on the mesh: steps in the order of application. Axes not named replicate, or are
    /// where the logical name's arithmetic says.
    public var placement: [On] = []
    /// What is done to the gathered tensors.
    public var transforms: [RuleTransform] = []
    /// What they become.
    public var outcome: Outcome = .tensors
    /// The shape of the whole foreign tensor, where flattened shards do not tell it.
    public var shape: [IntegerExpression]?
    /// Whether the rule may match nothing.
    public var isOptional = false
    /// Whether the rule is skipped when a logical checkpoint is sharded: it reads another spelling of names that
    /// another rule writes.
    public var isForGatheringOnly = false
    /// Which optimizer moments go the same way.
    public var moments: Moments = .all

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
