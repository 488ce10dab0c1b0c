/// A weight that is stored as codes: which tensors it is made of.
public struct QuantisedWeight: Sendable, Hashable {
    /// What the weight itself is called where it is stored as numbers, or the module that it belongs to.
    public var name: String
    public var scheme: QuantisationScheme
    /// The tensors of codes.
    public var codes: [String]
    /// What lies beside them: scales, zero points, orders, shapes.
    public var companions: [String]

    /// All tensors, the codes first.
    public var parts: [String] { codes + companions }
}
