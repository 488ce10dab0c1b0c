import CairnBase
import CairnTensor
import Testing

@Suite struct FloatConversionTests {
    static let levels = Array(0...CRC32C.highestLevel)
    static let formats = FloatFormatReference.all

    @Test(arguments: formats, levels) func everyCodeDecodesToItsValue(format: FloatFormatReference, level: Int) throws {
        let codes = format.codes
        let singles = try format.decoded(codes, to: .f32, as: Float.self, level: level)
        let doubles = try format.decoded(codes, to: .f64, as: Double.self, level: level)
        for code in codes {
            let expected = format.value(code)
            let single = singles[Int(code)], double = doubles[Int(code)]
            if expected.isNaN {
                #expect(single.isNaN && !single.isSignalingNaN && double.isNaN && !double.isSignalingNaN)
                if !format.isUnsignedZero {
                    #expect((single.sign == .minus) == (code & format.signBit != 0))
                }
            } else {
                #expect(Double(single).bitPattern == expected.bitPattern, "code \(code)")
                #expect(double.bitPattern == expected.bitPattern, "code \(code)")
            }
        }
    }

    /// Each value of the format, each midpoint, and their neighbours in the source's precision, of both signs.
    static func boundaries<F: BinaryFloatingPoint>(_ format: FloatFormatReference, as: F.Type) -> [F] {
        var values: [F] = []
        for (low, high) in zip(format.magnitudes, format.magnitudes.dropFirst()) {
            for point in [F(low), F((low + high) / 2)] { values += [point.nextDown, point, point.nextUp] }
        }
        let next = F(format.magnitudes[Int(format.largest) + 1])
        values += [next, next.nextUp, .greatestFiniteMagnitude, .infinity, .leastNonzeroMagnitude]
        return values + values.map { -$0 }
    }

    @Test(arguments: formats, levels) func singlesRoundToNearestEvenAtEveryBoundary(
        format: FloatFormatReference, level: Int
    ) throws {
        let values = Self.boundaries(format, as: Float.self)
        for overflow in [OverflowBehavior.ieee, .saturate] {
            let found = try format.encoded(values, .f32, overflow: overflow, level: level)
            let wrong = zip(values, found).first {
                format.code(nearestTo: Double($0.0), overflow: overflow) != $0.1
            }
            #expect(wrong == nil, "\(overflow)")
        }
    }

    @Test(arguments: formats) func doublesRoundOnceAtEveryBoundary(format: FloatFormatReference) throws {
        let values = Self.boundaries(format, as: Double.self)
        for overflow in [OverflowBehavior.ieee, .saturate] {
            let found = try format.encoded(values, .f64, overflow: overflow)
            let wrong = zip(values, found).first { format.code(nearestTo: $0.0, overflow: overflow) != $0.1 }
            #expect(wrong == nil, "\(overflow)")
        }
    }

    @Test(arguments: formats, formats) func narrowTypesConvertToEachOther(
        source: FloatFormatReference, destination: FloatFormatReference
    ) throws {
        guard source.type != destination.type else { return }
        let codes = source.codes.filter { !source.isNaN($0) }
        let bytes = codes.map { UInt8(truncatingIfNeeded: $0) }
        for overflow in [OverflowBehavior.ieee, .saturate] {
            let found =
                source.width == 8
                ? try destination.encoded(bytes, source.type, overflow: overflow)
                : try destination.encoded(codes, source.type, overflow: overflow)
            let wrong = zip(codes, found).first {
                destination.code(nearestTo: source.value($0.0), overflow: overflow) != $0.1
            }
            #expect(wrong == nil, "\(overflow)")
        }
    }

    @Test(arguments: formats, levels) func aNaNStaysAQuietNaNOfItsSign(
        format: FloatFormatReference, level: Int
    ) throws {
        let patterns: [UInt32] = [0x7FC0_0000, 0xFFC0_0000, 0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF]
        let values = patterns.map { Float(bitPattern: $0) }
        for overflow in [OverflowBehavior.ieee, .saturate] {
            let found = try format.encoded(values, .f32, overflow: overflow, level: level)
            for (value, code) in zip(values, found) {
                #expect(format.isNaN(code))
                if !format.isUnsignedZero { #expect((code & format.signBit != 0) == (value.sign == .minus)) }
                if format.width == 16 { #expect(code & 1 << UInt16(format.mantissaBits - 1) != 0) }
            }
        }
    }

    @Test func payloadsOfNaNKeepTheirUpperBits() throws {
        let value = Float(bitPattern: 0xFFD5_4321)
        #expect(try converted([value], .f32, to: .bf16, as: UInt16.self) == [0xFFD5])
        #expect(try converted([value], .f32, to: .f16, as: UInt16.self) == [0xFEAA])
        #expect(try converted([UInt16(0xFF95)], .bf16, to: .f32, as: UInt32.self) == [0xFFD5_0000])
        #expect(try converted([value], .f32, to: .f64, as: UInt64.self) == [0xFFFA_A864_2000_0000])
    }

    @Test func doublesRoundToSinglesAndWidenBack() throws {
        let values = [0.1, -1e-46, 1e39, .infinity, 3.4028235677973366e38, .leastNonzeroMagnitude]
        #expect(try converted(values, .f64, to: .f32, as: Float.self) == values.map { Float($0) })
        let largest = Float.greatestFiniteMagnitude
        let saturated = try converted(values, .f64, to: .f32, as: Float.self, overflow: .saturate)
        #expect(saturated == [0.1, -0.0, largest, largest, largest, 0])
        let infinities = [Float.infinity, -.infinity]
        #expect(
            try converted(infinities, .f32, to: .f64, as: Double.self, overflow: .saturate)
                == [.greatestFiniteMagnitude, -.greatestFiniteMagnitude])
        #expect(try converted(infinities, .f32, to: .f64, as: Double.self) == [.infinity, -.infinity])
    }

    @Test func scalesOfE8M0ArePowersOfTwo() throws {
        let codes = (0...254).map { UInt8($0) }
        let expected = codes.map { Float(sign: .plus, exponent: Int($0) - 127, significand: 1) }
        #expect(try converted(codes, .f8e8m0, to: .f32, as: Float.self) == expected)
        #expect(try converted([UInt8(0xFF)], .f8e8m0, to: .f32, as: Float.self)[0].isNaN)
        #expect(try converted(expected, .f32, to: .f8e8m0, as: UInt8.self) == codes)
        let values: [Float] = [
            0, -0.0, -1, 1.5, 3, Float(1.5).nextDown, .leastNonzeroMagnitude, 0x1.8p-127, 0x1.8p127,
            Float(0x1.8p127).nextDown, .infinity, .nan,
        ]
        #expect(
            try converted(values, .f32, to: .f8e8m0, as: UInt8.self)
                == [0, 0, 127, 128, 129, 127, 0, 1, 255, 254, 255, 255])
        #expect(
            try converted(values, .f32, to: .f8e8m0, as: UInt8.self, overflow: .saturate)
                == [0, 0, 127, 128, 129, 127, 0, 1, 254, 254, 254, 255])
    }

    @Test func aBFloat16IsWhatTheKernelsMakeOfAFloat() throws {
        let patterns = (0...0xFFFF).map { UInt32($0) }
        let values = patterns.flatMap { high in
            [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF].map { Float(bitPattern: high << 16 | $0) }
        }
        let kernel = try converted(values, .f32, to: .bf16, as: UInt16.self)
        #expect(values.map { BFloat16($0).bitPattern } == kernel)
        #expect(Float(BFloat16(-1.5)) == -1.5)
        #expect(BFloat16(2.25).description == "2.25")
    }
}
