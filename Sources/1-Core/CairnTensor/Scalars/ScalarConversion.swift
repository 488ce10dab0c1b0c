import CCairnKernels
package import CairnBase

/// Conversion of arrays from one scalar type to another.
///
/// - Float to float rounds once, to the nearest value of the destination, ties to even. NaN stays NaN: quiet, with its
///   sign where the type has one, and with the upper bits of its payload in F16, BF16, F32 and F64. What lies out of
///   range follows ``OverflowBehavior``; without saturation infinities stay infinities where the type has them.
/// - To F8_E8M0 the magnitude is rounded to the nearest power of two, the larger one when both are equally near; zero
///   and what is smaller become 2⁻¹²⁷. (PyTorch breaks ties the same way.)
/// - The FNUZ types have no negative zero: it becomes zero.
/// - Float to integer truncates toward zero and always saturates; NaN becomes 0.
/// - Integer to integer keeps the low bits, or saturates if asked to. Integer to float rounds once, as float to float.
/// - To BOOL everything but zero is 1, NaN too. From BOOL every byte but zero counts as 1.
/// - The same type copies the bytes, whatever they are. C64 and the packed types (F4, F6) convert to themselves only.
package enum ScalarConversion {
    /// Converts as many elements as fill both spans.
    ///
    /// - Parameters:
    ///   - source: Elements at any alignment, as in a file.
    ///   - sourceType: Their type.
    ///   - destination: Room for as many elements, at any alignment.
    ///   - destinationType: The type to convert to.
    ///   - overflow: What becomes of values out of range.
    /// - Throws: `unsupported` for a pair that does not convert, `mismatch` for a source that is not a whole number of
    ///   elements or a destination of another number of elements.
    package static func convert(
        _ source: RawSpan, from sourceType: ScalarType, into destination: inout MutableRawSpan,
        to destinationType: ScalarType, overflow: OverflowBehavior = .ieee
    ) throws(CairnError) {
        try convert(
            source, from: sourceType, into: &destination, to: destinationType, overflow: overflow,
            level: Int(CAIRN_LEVEL_HIGHEST))
    }

    /// The same by the instructions of `level` (see `cairn_level.h`), so that tests reach every path.
    package static func convert(
        _ source: RawSpan, from sourceType: ScalarType, into destination: inout MutableRawSpan,
        to destinationType: ScalarType, overflow: OverflowBehavior, level: Int
    ) throws(CairnError) {
        if sourceType == destinationType {
            try check(source.byteCount == destination.byteCount, source, sourceType, destination, destinationType)
            copy(source, into: &destination)
            return
        }
        guard let from = sourceType.kernelType, let to = destinationType.kernelType,
            let sourceWidth = sourceType.byteWidth, let destinationWidth = destinationType.byteWidth
        else {
            throw CairnError(
                .unsupported, "\(sourceType) does not convert to \(destinationType)",
                .init(advice: "keep the type, or convert with the framework that wrote it"))
        }
        let count = source.byteCount / sourceWidth
        try check(
            source.byteCount % sourceWidth == 0 && destination.byteCount % destinationWidth == 0
                && destination.byteCount / destinationWidth == count,
            source, sourceType, destination, destinationType)
        source.withUnsafeBytes { input in
            destination.withUnsafeMutableBytes { output in
                cairn_convert(
                    CInt(level), CInt(from.rawValue), input.baseAddress, CInt(to.rawValue), output.baseAddress, count,
                    overflow == .saturate ? 1 : 0)
            }
        }
    }

    /// Whether arrays of one type convert to the other.
    package static func isSupported(from source: ScalarType, to destination: ScalarType) -> Bool {
        source == destination || (source.kernelType != nil && destination.kernelType != nil)
    }

    private static func copy(_ source: RawSpan, into destination: inout MutableRawSpan) {
        source.withUnsafeBytes { input in
            destination.withUnsafeMutableBytes { $0.copyMemory(from: input) }
        }
    }

    private static func check(
        _ agrees: Bool, _ source: RawSpan, _ sourceType: ScalarType, _ destination: borrowing MutableRawSpan,
        _ destinationType: ScalarType
    ) throws(CairnError) {
        guard !agrees else { return }
        throw CairnError(
            .mismatch, "source and destination of a conversion hold different numbers of elements",
            .init(
                expected: "\(source.byteCount) bytes of \(sourceType) as \(destinationType)",
                found: "\(destination.byteCount) bytes"))
    }
}

extension ScalarType {
    /// The number by which `cairn_convert.h` knows the type, or `nil` for one whose elements convert to no other type.
    package var kernelNumber: Int32? { kernelType.map { Int32($0.rawValue) } }

    /// The kernels' name for the type, or `nil` for one whose elements convert to no other type.
    fileprivate var kernelType: cairn_scalar? {
        switch self {
        case .bool: CAIRN_BOOL
        case .u8: CAIRN_U8
        case .i8: CAIRN_I8
        case .u16: CAIRN_U16
        case .i16: CAIRN_I16
        case .u32: CAIRN_U32
        case .i32: CAIRN_I32
        case .u64: CAIRN_U64
        case .i64: CAIRN_I64
        case .f8e5m2: CAIRN_F8_E5M2
        case .f8e4m3: CAIRN_F8_E4M3
        case .f8e8m0: CAIRN_F8_E8M0
        case .f8e4m3fnuz: CAIRN_F8_E4M3FNUZ
        case .f8e5m2fnuz: CAIRN_F8_E5M2FNUZ
        case .f16: CAIRN_F16
        case .bf16: CAIRN_BF16
        case .f32: CAIRN_F32
        case .f64: CAIRN_F64
        case .f4, .f6e2m3, .f6e3m2, .c32, .c64, .c128: nil
        }
    }
}

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
