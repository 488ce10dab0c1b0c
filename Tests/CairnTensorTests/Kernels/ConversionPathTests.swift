import CairnBase
import CairnTensor
import CairnTesting
import Testing

@Suite struct ConversionPathTests {
    static let types = ScalarType.allCases
    static let convertible = types.filter { !$0.isPacked && !$0.isComplex }

    /// Random bits; half of the doubles lie in the range of a single, where narrower types tell them apart.
    static func randomBytes(_ type: ScalarType, elements: Int, using generator: inout SeededGenerator) -> [UInt8] {
        if type == .f64 {
            let values = (0..<elements).map { index in
                let narrow = Double(Float(bitPattern: .random(in: .min ... .max, using: &generator))).bitPattern
                let low = UInt64.random(in: 0..<1 << 28, using: &generator)
                return index % 2 == 0 ? narrow ^ low : UInt64.random(in: .min ... .max, using: &generator)
            }
            return values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) } }
        }
        return (0..<elements * (type.byteWidth ?? 1)).map { _ in .random(in: 0...255, using: &generator) }
    }

    @Test(arguments: convertible) func everyLevelGivesTheBitsOfThePortablePath(source: ScalarType) throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for destination in Self.convertible {
            for elements in [0, 1, 7, 15, 16, 17, 1_023, 2_051] {
                let offset = Int.random(in: 0...7, using: &generator)
                let bytes =
                    [UInt8](repeating: 0, count: offset)
                    + Self.randomBytes(source, elements: elements, using: &generator)
                for overflow in [OverflowBehavior.ieee, .saturate] {
                    var results: [[UInt8]] = []
                    for level in 0...CRC32C.highestLevel {
                        let room = offset + elements * (destination.byteWidth ?? 1)
                        var result = [UInt8](repeating: 0xA5, count: room + 3)
                        try result.withUnsafeMutableBytes { all in
                            var part = UnsafeMutableRawBufferPointer(rebasing: all[offset..<room]).mutableBytes
                            try ScalarConversion.convert(
                                bytes.span.bytes.extracting(droppingFirst: offset), from: source, into: &part,
                                to: destination, overflow: overflow, level: level)
                        }
                        results.append(result)
                    }
                    // Comparing the margins too shows a kernel that writes outside.
                    #expect(results[0].suffix(3) == [0xA5, 0xA5, 0xA5])
                    let differing = results.firstIndex { $0 != results[0] }
                    #expect(differing == nil, "\(destination), \(elements) elements, \(overflow), seed \(seed)")
                }
            }
        }
    }

    @Test(arguments: types, types) func onlyRealTypesOfWholeBytesConvert(source: ScalarType, destination: ScalarType) {
        let bytes = [UInt8](repeating: 0, count: 24)
        let elements = 24 / (source.byteWidth ?? 24)
        var result = [UInt8](repeating: 1, count: source == destination ? 24 : elements * (destination.byteWidth ?? 1))
        var intoSpan = result.mutableSpan
        var into = intoSpan.mutableBytes
        let isSupported =
            source == destination
            || (Self.convertible.contains(source) && Self.convertible.contains(destination))
        #expect(ScalarConversion.isSupported(from: source, to: destination) == isSupported)
        do throws(CairnError) {
            try ScalarConversion.convert(bytes.span.bytes, from: source, into: &into, to: destination)
            #expect(isSupported)
        } catch {
            #expect(!isSupported && error.code == .unsupported)
        }
    }

    @Test func theSameTypeKeepsEveryByte() throws {
        let bytes: [UInt8] = [2, 255, 0, 1]
        #expect(try converted(bytes, .bool, to: .bool, as: UInt8.self) == bytes)
        #expect(try converted([UInt16(0x7F81)], .bf16, to: .bf16, as: UInt16.self, overflow: .saturate) == [0x7F81])
    }

    @Test(arguments: [(7, 4), (8, 3), (8, 6), (8, 0), (0, 2)]) func lengthsThatDisagreeAreRefused(
        sourceBytes: Int, destinationBytes: Int
    ) {
        let bytes = [UInt8](repeating: 0, count: sourceBytes)
        var result = [UInt8](repeating: 0, count: destinationBytes)
        var intoSpan = result.mutableSpan
        var into = intoSpan.mutableBytes
        do throws(CairnError) {
            try ScalarConversion.convert(bytes.span.bytes, from: .f32, into: &into, to: .bf16)
            Issue.record("accepted")
        } catch {
            #expect(error.code == .mismatch)
        }
    }
}
