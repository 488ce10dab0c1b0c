public import CairnTensor

/// A box of the whole tensor and where it stands in a rank's local tensor.
///
/// Both have the same elements in the same row-major order. For flattened and explicit local tensors of one
/// dimension `local` is one-dimensional; otherwise both have the same extents.
public struct LocalFragment: Sendable, Hashable {
    /// Where it stands in the whole tensor.
    public let global: Region
    /// Where it stands in the rank's local tensor.
    public let local: Region

    public init(global: Region, local: Region) {
        self.global = global
        self.local = local
    }
}

extension LocalFragment: CustomStringConvertible {
    /// `[0..<4, 8..<16] at [0..<4, 0..<8]`
    public var description: String { "\(global) at \(local)" }
}
