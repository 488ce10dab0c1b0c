import CairnBase

/// The type of a tensor's elements: every type of the safetensors format, spelled as it spells them, and two complex
/// types that PyTorch has beyond those.
///
/// Source: the `Dtype` enumeration of safetensors 0.8.
public enum ScalarType: String, Sendable, Hashable, CaseIterable {
    /// One byte, 0 or 1.
    case bool = "BOOL"
    /// Packed 4-bit float (E2M1), two elements a byte.
    case f4 = "F4"
    /// Packed 6-bit float, four elements in three bytes.
    case f6e2m3 = "F6_E2M3"
    /// Packed 6-bit float, four elements in three bytes.
    case f6e3m2 = "F6_E3M2"
    case u8 = "U8"
    case i8 = "I8"
    /// OCP 8-bit float with infinities and NaN.
    case f8e5m2 = "F8_E5M2"
    /// OCP 8-bit float without infinities ("fn"): the largest finite value is 448, 0x7F is NaN.
    case f8e4m3 = "F8_E4M3"
    /// OCP 8-bit power-of-two scale: no sign, no zero, 0xFF is NaN.
    case f8e8m0 = "F8_E8M0"
    /// 8-bit float whose 0x80 is NaN, without infinities and negative zero; the largest finite value is 240.
    case f8e4m3fnuz = "F8_E4M3FNUZ"
    /// 8-bit float whose 0x80 is NaN, without infinities and negative zero; the largest finite value is 57344.
    case f8e5m2fnuz = "F8_E5M2FNUZ"
    case i16 = "I16"
    case u16 = "U16"
    case f16 = "F16"
    case bf16 = "BF16"
    case i32 = "I32"
    case u32 = "U32"
    case f32 = "F32"
    /// Two 32-bit floats, real part first.
    case c64 = "C64"
    case f64 = "F64"
    case i64 = "I64"
    case u64 = "U64"
    /// Two 16-bit floats, real part first. Not a safetensors type.
    case c32 = "C32"
    /// Two 64-bit floats, real part first. Not a safetensors type.
    case c128 = "C128"
}

extension ScalarType: CustomStringConvertible {
    /// The safetensors spelling.
    public var description: String { rawValue }

    /// The size of one element in bits: 4, 6 or a multiple of 8.
    public var bitWidth: Int {
        switch self {
        case .f4: 4
        case .f6e2m3, .f6e3m2: 6
        case .bool, .u8, .i8, .f8e5m2, .f8e4m3, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz: 8
        case .i16, .u16, .f16, .bf16: 16
        case .i32, .u32, .f32, .c32: 32
        case .c64, .f64, .i64, .u64: 64
        case .c128: 128
        }
    }

    /// The size of one element in bytes, or `nil` for the packed types whose elements are not whole bytes.
    public var byteWidth: Int? { bitWidth % 8 == 0 ? bitWidth / 8 : nil }

    /// Whether elements share bytes, so that only runs that fill whole bytes can be addressed.
    package var isPacked: Bool { bitWidth % 8 != 0 }

    /// Whether the elements are real floating-point numbers.
    public var isFloatingPoint: Bool {
        switch self {
        case .f4, .f6e2m3, .f6e3m2, .f8e5m2, .f8e4m3, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz, .f16, .bf16, .f32, .f64: true
        case .bool, .u8, .i8, .i16, .u16, .i32, .u32, .i64, .u64, .c32, .c64, .c128: false
        }
    }

    /// Whether the elements are complex numbers.
    public var isComplex: Bool { self == .c32 || self == .c64 || self == .c128 }

    /// Whether safetensors files, and so Cairn's own, can hold elements of this type.
    package var isSafetensorsType: Bool { self != .c32 && self != .c128 }

    /// The bytes that `elementCount` packed elements fill, or `nil` when that overflows or is not a whole number of bytes.
    public func byteCount(elementCount: Int) -> Int? {
        guard elementCount >= 0 else { return nil }
        // Split so that counts near Int.max overflow only when the byte count itself does.
        let (groups, rest) = elementCount.quotientAndRemainder(dividingBy: 8)
        let restBits = rest * bitWidth
        guard restBits % 8 == 0 else { return nil }
        return groups.multiplied(checked: bitWidth)?.adding(checked: restBits / 8)
    }

    /// The bytes that so many elements begin, at most the greatest number: for totals that are only shown.
    package func leastByteCount(elementCount: Int) -> Int {
        let bits = UInt128(elementCount.magnitude) * UInt128(bitWidth)
        return Int(clamping: (bits + 7) / 8)
    }
}

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
