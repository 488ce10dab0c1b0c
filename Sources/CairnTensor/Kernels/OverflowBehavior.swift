/// What a conversion makes of a value that the destination type cannot reach.
public enum OverflowBehavior: Sendable, Hashable {
    /// As IEEE 754 rounding and two's complement have it.
    ///
    /// A float beyond the largest finite value becomes an infinity, or NaN in a type without infinities (F8_E4M3,
    /// F8_E4M3FNUZ, F8_E5M2FNUZ, F8_E8M0). An integer keeps its low bits. (PyTorch 2.13 saturates F8_E4M3 alone.)
    case ieee
    /// The destination's largest or smallest finite value.
    ///
    /// That holds for infinities too, as in the saturating mode of the OCP 8-bit floating-point specification.
    case saturate
}
