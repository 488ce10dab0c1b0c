public import CairnTensor

/// What an optimizer keeps for each parameter: every rule holds for it too, under names made from the parameter's.
public struct Moment: Sendable, Hashable {
    /// How messages and rules call it: `exp_avg`.
    public var name: String
    /// The foreign name: `optimizer.exp_avg.{fqn}`, where `{fqn}` is the parameter's foreign name.
    public var from: String
    /// The logical name, where `{fqn}` is the parameter's logical name.
    public var to: String
    /// What its element type must be; `nil` for any. A rule's casts are for parameters and are not applied to moments.
    public var scalarType: ScalarType?
    /// Steps that take the place of the rule's on the same axis, or come behind them: moments that ZeRO cuts over an
    /// axis on which the parameter is replicated.
    public var placement: [On]
    /// Whether a parameter may lack it.
    public var isOptional: Bool

    public init(
        _ name: String, from: String, to: String, scalarType: ScalarType? = nil, placement: [On] = [],
        isOptional: Bool = false
    ) {
        self.name = name
        self.from = from
        self.to = to
        self.scalarType = scalarType
        self.placement = placement
        self.isOptional = isOptional
    }
}
