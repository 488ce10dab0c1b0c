/// A 16-bit float with the exponent of `Float` and 7 bits of mantissa: the upper half of a `Float`.
///
/// Equality and hashing are those of the bit pattern, so that a NaN equals itself and the two zeros differ.
@frozen public struct BFloat16: BitwiseCopyable, Sendable, Hashable {
    /// The bits: sign, 8 of exponent, 7 of mantissa.
    public var bitPattern: UInt16

    /// Creates the value that the bits stand for.
    @inlinable public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

    /// Creates the nearest value, ties to even. A NaN stays one, quiet, with its sign and its payload's upper bits.
    @inlinable public init(_ value: Float) {
        let bits = value.bitPattern
        let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
        let quiet = bits >> 16 | 0x40
        bitPattern = UInt16(truncatingIfNeeded: bits & 0x7FFF_FFFF > 0x7F80_0000 ? quiet : rounded)
    }
}

extension Float {
    /// Creates the value of a `BFloat16`, exactly.
    @inlinable public init(_ value: BFloat16) { self.init(bitPattern: UInt32(value.bitPattern) << 16) }
}

extension BFloat16: CustomStringConvertible {
    /// The value as a `Float` prints.
    public var description: String { Float(self).description }
}
