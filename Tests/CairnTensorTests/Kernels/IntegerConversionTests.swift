import CairnTensor
import Testing

@Suite struct IntegerConversionTests {
    static let doubles: [Double] = [
        0, -0.0, 0.9, -0.9, 1.5, -1.5, 127, 127.9, 128, -128.9, -129, 255.5, 256, 32767.5, 32768, -32769, 65536,
        2147483647.5, 2147483648, -2147483649, 4294967296, 0x1p53, -0x1p53, 0x1p63, -0x1p63, 0x1.8p63, 0x1p64, 1e300,
        -1e300, .infinity, -.infinity, .nan, .leastNonzeroMagnitude,
    ]

    static func truncated<I: FixedWidthInteger>(_ value: Double, as: I.Type) -> I {
        if value.isNaN { return 0 }
        let whole = value.rounded(.towardZero)
        return I(exactly: whole) ?? (whole < 0 ? .min : .max)
    }

    static func checkTruncation<I: FixedWidthInteger & BitwiseCopyable>(_: I.Type, _ type: ScalarType) throws {
        for overflow in [OverflowBehavior.ieee, .saturate] {
            let found = try converted(doubles, .f64, to: type, as: I.self, overflow: overflow)
            #expect(found == doubles.map { truncated($0, as: I.self) })
            let singles = doubles.map { Float($0) }
            let fromSingles = try converted(singles, .f32, to: type, as: I.self, overflow: overflow)
            #expect(fromSingles == singles.map { truncated(Double($0), as: I.self) })
        }
    }

    @Test func floatsTruncateAndSaturateAndNaNIsZero() throws {
        try Self.checkTruncation(UInt8.self, .u8)
        try Self.checkTruncation(Int8.self, .i8)
        try Self.checkTruncation(UInt16.self, .u16)
        try Self.checkTruncation(Int16.self, .i16)
        try Self.checkTruncation(UInt32.self, .u32)
        try Self.checkTruncation(Int32.self, .i32)
        try Self.checkTruncation(UInt64.self, .u64)
        try Self.checkTruncation(Int64.self, .i64)
    }

    static func checkIntegers<S: FixedWidthInteger & BitwiseCopyable>(_: S.Type, _ source: ScalarType) throws {
        let limits: [S] = [.min, .min + 1, .max, .max - 1, 0, 1, .max / 2, .max / 2 + 1]
        let values = limits + (0..<16).map { S(truncatingIfNeeded: 0x9E37_79B9_7F4A_7C15 as UInt64 >> (4 * $0)) }
        try checkIntegers(values, source, to: .u8, UInt8.self)
        try checkIntegers(values, source, to: .i8, Int8.self)
        try checkIntegers(values, source, to: .u16, UInt16.self)
        try checkIntegers(values, source, to: .i16, Int16.self)
        try checkIntegers(values, source, to: .u32, UInt32.self)
        try checkIntegers(values, source, to: .i32, Int32.self)
        try checkIntegers(values, source, to: .u64, UInt64.self)
        try checkIntegers(values, source, to: .i64, Int64.self)
    }

    static func checkIntegers<S: FixedWidthInteger & BitwiseCopyable, D: FixedWidthInteger & BitwiseCopyable>(
        _ values: [S], _ source: ScalarType, to destination: ScalarType, _: D.Type
    ) throws {
        let wrapped = try converted(values, source, to: destination, as: D.self)
        #expect(wrapped == values.map { D(truncatingIfNeeded: $0) }, "\(source) to \(destination)")
        let clamped = try converted(values, source, to: destination, as: D.self, overflow: .saturate)
        #expect(clamped == values.map { D(clamping: $0) }, "\(source) to \(destination)")
    }

    @Test func integersWrapOrSaturate() throws {
        try Self.checkIntegers(UInt8.self, .u8)
        try Self.checkIntegers(Int8.self, .i8)
        try Self.checkIntegers(UInt16.self, .u16)
        try Self.checkIntegers(Int16.self, .i16)
        try Self.checkIntegers(UInt32.self, .u32)
        try Self.checkIntegers(Int32.self, .i32)
        try Self.checkIntegers(UInt64.self, .u64)
        try Self.checkIntegers(Int64.self, .i64)
    }

    /// `value` rounded to `bits` significant bits, ties to even, in integer arithmetic.
    static func rounded(_ value: UInt64, toBits bits: Int) -> Double {
        let extra = 64 - value.leadingZeroBitCount - bits
        guard extra > 0 else { return Double(value) }
        let kept = value >> UInt64(extra), rest = value & ((1 << UInt64(extra)) - 1)
        let half: UInt64 = 1 << UInt64(extra - 1)
        let up = rest > half || (rest == half && kept & 1 == 1)
        return Double(sign: .plus, exponent: extra, significand: Double(kept + (up ? 1 : 0)))
    }

    @Test func integersOf64BitsRoundToFloatsOnce() throws {
        var values: [UInt64] = []
        for bits in [8, 11, 24, 53] as [UInt64] {
            for shift in 0..<(64 - bits) {
                // A midpoint, whose neighbours a first rounding to a double would merge with it.
                for lead in [1 << bits, 1 << bits | 2] as [UInt64] {
                    let midpoint = (lead | 1) << shift
                    values += [midpoint - 1, midpoint, midpoint + 1]
                }
            }
        }
        values += [.max, .max - 1, 1 << 63, (1 << 63) - 1, 0, 1]
        #expect(
            try converted(values, .u64, to: .f32, as: Float.self).map { Double($0) }
                == values.map { Self.rounded($0, toBits: 24) })
        #expect(try converted(values, .u64, to: .f64, as: Double.self) == values.map { Self.rounded($0, toBits: 53) })
        let bfloats = try FloatFormatReference.bf16.encoded(values, .u64)
        #expect(bfloats.map { FloatFormatReference.bf16.value($0) } == values.map { Self.rounded($0, toBits: 8) })
        let halves = try FloatFormatReference.f16.encoded(values, .u64).map { FloatFormatReference.f16.value($0) }
        let expectedHalves = values.map { Self.rounded($0, toBits: 11) }.map { $0 > 65504 ? Double.infinity : $0 }
        #expect(halves == expectedHalves)

        let negative = values.filter { $0 <= 1 << 63 }.map { Int64(truncatingIfNeeded: 0 &- $0) }
        #expect(
            try converted(negative, .i64, to: .f32, as: Float.self).map { Double($0) }
                == negative.map { -Self.rounded($0.magnitude, toBits: 24) })
        let negativeBfloats = try FloatFormatReference.bf16.encoded(negative, .i64)
        #expect(
            negativeBfloats.map { FloatFormatReference.bf16.value($0) }
                == negative.map { -Self.rounded($0.magnitude, toBits: 8) })
    }

    @Test func truthIsNotZero() throws {
        let floats: [Float] = [0, -0.0, 0.1, .nan, -.infinity]
        #expect(try converted(floats, .f32, to: .bool, as: UInt8.self) == [0, 0, 1, 1, 1])
        #expect(try converted([0, 256, -1] as [Int32], .i32, to: .bool, as: UInt8.self) == [0, 1, 1])
        #expect(try converted([UInt64.max, 1 << 32, 0], .u64, to: .bool, as: UInt8.self) == [1, 1, 0])
        #expect(try converted([0, 1, 2, 255] as [UInt8], .bool, to: .f32, as: Float.self) == [0, 1, 1, 1])
        #expect(try converted([0, 1, 2, 255] as [UInt8], .bool, to: .i64, as: Int64.self) == [0, 1, 1, 1])
        #expect(try converted([0, 7] as [UInt8], .bool, to: .bf16, as: UInt16.self) == [0, 0x3F80])
    }
}
