import CairnTensor
import Testing

/// What a conversion does beyond rounding is counted, whatever the types.
@Suite struct ConversionLossTests {
    private func loss<Number: BitwiseCopyable>(
        _ numbers: [Number], _ from: ScalarType, _ to: ScalarType, overflow: OverflowBehavior = .ieee
    ) throws -> (overflows: Int, greatest: Double, changes: Int) {
        var result = [UInt8](repeating: 0, count: numbers.count * (to.byteWidth ?? 1))
        var span = result.mutableSpan
        var bytes = span.mutableBytes
        let found = try ScalarConversion.convertNotingLoss(
            numbers.span.bytes, from: from, into: &bytes, to: to, overflow: overflow)
        // The same elements as without looking.
        var plain = [UInt8](repeating: 0, count: result.count)
        var plainSpan = plain.mutableSpan
        var plainBytes = plainSpan.mutableBytes
        try ScalarConversion.convert(numbers.span.bytes, from: from, into: &plainBytes, to: to, overflow: overflow)
        #expect(result == plain)
        return (found.overflowCount, found.greatestOverflow, found.changeCount)
    }

    @Test func finiteNumbersThatBecomeInfiniteAreOverflows() throws {
        let numbers: [Float] = [1, 65504, 65519, 65520, -70000, 1e30, .infinity, -.infinity, .nan, 1e-30]
        #expect(try loss(numbers, .f32, .f16) == (3, Double(Float(1e30)), 0))
        #expect(try loss(numbers, .f32, .bf16) == (0, 0, 0))
        #expect(try loss([3.39e38 as Float, Float.greatestFiniteMagnitude], .f32, .bf16).overflows == 1)
        #expect(try loss([1e300, 1, -1e39], .f64, .f32) == (2, 1e300, 0))
        #expect(try loss([57344 as Float, 61440, 1], .f32, .f8e5m2) == (1, 61440, 0))
    }

    @Test func typesWithoutInfinitiesLoseThem() throws {
        // Beyond 464 the nearest number would be beyond 448; the type has no infinity either.
        #expect(try loss([448 as Float, 460, 470, .infinity, .nan], .f32, .f8e4m3) == (1, 470, 1))
        #expect(try loss([240 as Float, 500, -.infinity], .f32, .f8e4m3fnuz) == (1, 500, 1))
    }

    /// Numbers are looked through in blocks, which must not hide one.
    @Test(arguments: [ScalarType.bf16, .f16, .f8e5m2, .f8e4m3, .f8e4m3fnuz])
    func oneNumberAmongManyIsFoundWhereverItIs(type: ScalarType) throws {
        for count in [1, 2, 4095, 4096, 4097, 9000] {
            for position in [0, count / 2, count - 1] {
                var numbers = [Float](repeating: 1, count: count)
                #expect(try loss(numbers, .f32, type).overflows == 0)
                numbers[position] = .greatestFiniteMagnitude
                #expect(try loss(numbers, .f32, type).overflows == 1, "\(position) of \(count)")
            }
        }
        #expect(try loss([Double](repeating: 1, count: 5000) + [1e39], .f64, .f32).overflows == 1)
        #expect(try loss([Float](repeating: 1, count: 5000), .f32, .f64).overflows == 0)
    }

    @Test func saturationIsALossToo() throws {
        #expect(try loss([70000 as Float, 1, .infinity], .f32, .f16, overflow: .saturate) == (1, 70000, 1))
    }

    @Test func scalesLoseSignsAndZeros() throws {
        #expect(try loss([1 as Float, 2, -4, 0], .f32, .f8e8m0) == (0, 0, 2))
    }

    @Test func integersThatAreCutAreChanges() throws {
        #expect(try loss([1, -1, Int64(Int32.max), Int64(Int32.max) + 1], .i64, .i32) == (0, 0, 1))
        #expect(try loss([1, -1] as [Int32], .i32, .u8) == (0, 0, 1))
        #expect(try loss([0, 1, 2] as [UInt8], .u8, .bool) == (0, 0, 1))
        #expect(try loss([255] as [UInt8], .u8, .i64) == (0, 0, 0))
    }

    @Test func integersBetweenFloatsAreChanges() throws {
        #expect(try loss([1 << 24, 1 << 24 + 1, UInt64.max], .u64, .f32) == (0, 0, 2))
        #expect(try loss([Int64.max, 1 << 53], .i64, .f64) == (0, 0, 1))
        #expect(try loss([65504, 70000] as [Int32], .i32, .f16) == (1, 70000, 0))
        #expect(try loss([-32768, 255] as [Int16], .i16, .f32) == (0, 0, 0))
    }

    @Test func fractionsAndWhatDoesNotFitAreChanges() throws {
        let numbers: [Double] = [1, -3, 2.5, .nan, .infinity, 1e300, -0.0]
        #expect(try loss(numbers, .f64, .i8) == (0, 0, 4))
        #expect(try loss([0.0, 1, 0.5], .f64, .bool) == (0, 0, 1))
    }

    @Test(arguments: ScalarType.allCases)
    func noTypeLosesAnythingToItself(type: ScalarType) {
        #expect(!ScalarConversion.canLose(from: type, to: type))
    }

    @Test func wideTypesHoldNarrowOnes() {
        let pairs: [(ScalarType, ScalarType)] = [
            (.f16, .f32), (.bf16, .f32), (.f32, .f64), (.f8e5m2, .f16), (.f8e4m3, .bf16), (.i32, .f64), (.u16, .i32),
            (.bool, .f16),
        ]
        for (narrow, wide) in pairs {
            #expect(!ScalarConversion.canLose(from: narrow, to: wide), "\(narrow) to \(wide)")
            #expect(ScalarConversion.canLose(from: wide, to: narrow), "\(wide) to \(narrow)")
        }
    }
}
