import CairnBase
import CairnTensor
import CairnTesting
import Testing

@Suite struct BytePlanesTests {
    static let levels = Array(0...CRC32C.highestLevel)

    /// The planes as the definition has them, of elements that are rotated left by one bit where that is asked for.
    private static func planes(_ bytes: ArraySlice<UInt8>, _ cut: BytePlanes.Cut) -> [UInt8] {
        let (width, elements) = (cut.width, bytes.count / cut.width)
        var planes = [UInt8](bytes)
        for i in 0..<elements {
            for plane in 0..<width {
                let place = bytes.startIndex + i * width
                let byte = bytes[place + plane]
                let below = bytes[place + (plane + width - 1) % width]
                planes[plane * elements + i] = cut.rotates ? byte << 1 | below >> 7 : byte
            }
        }
        return planes
    }

    @Test(arguments: levels, [2, 4, 8]) func splittingGroupsBytesBySignificanceAtAnyLength(level: Int, width: Int) {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for count in Array(0...600) + [4_096, 10_007] {
            let offset = Int.random(in: 0...9, using: &generator)
            let bytes = (0..<offset + count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            for rotates in [false, true] {
                let cut = BytePlanes.Cut(width: width, rotates: rotates)
                let place = "seed \(seed), \(count) bytes, \(rotates ? "rotated" : "as they are")"
                var planes = [UInt8](repeating: 0, count: count)
                var planeSpan = planes.mutableSpan
                var planeBytes = planeSpan.mutableBytes
                BytePlanes.split(bytes.span.bytes.extracting(droppingFirst: offset), cut, into: &planeBytes, level: level)
                #expect(planes == Self.planes(bytes[offset...], cut), "\(place)")

                var restored = [UInt8](repeating: 0, count: count)
                var restoredSpan = restored.mutableSpan
                var restoredBytes = restoredSpan.mutableBytes
                BytePlanes.join(planes.span.bytes, cut, into: &restoredBytes, level: level)
                #expect(restored == Array(bytes[offset...]), "\(place)")
            }
        }
    }

    @Test(arguments: levels, [1, 2, 4, 8]) func planesMayLieApartAndInAnyOrder(level: Int, width: Int) {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for elements in [1, 15, 16, 17, 31, 33, 1_000] {
            let bytes = (0..<elements * width).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let cut = BytePlanes.Cut(width: width, rotates: true)
            let expected = Self.planes(bytes[...], cut)
            let gap = elements + Int.random(in: 0...40, using: &generator)
            let order = (0..<width).shuffled(using: &generator)
            var memory = [UInt8](repeating: 0xEE, count: gap * width)
            var restored = [UInt8](repeating: 0, count: bytes.count)
            memory.withUnsafeMutableBytes { memory in
                guard let base = memory.baseAddress else { return }
                bytes.withUnsafeBytes { BytePlanes.split($0, cut, into: order.map { base + $0 * gap }, level: level) }
                restored.withUnsafeMutableBytes {
                    BytePlanes.join(order.map { UnsafeRawPointer(base + $0 * gap) }, cut, into: $0, level: level)
                }
            }
            for (plane, place) in order.enumerated() {
                let found = memory[place * gap..<(place + 1) * gap]
                #expect(found.prefix(elements).elementsEqual(expected[plane * elements..<(plane + 1) * elements]), "seed \(seed)")
                #expect(found.dropFirst(elements).allSatisfy { $0 == 0xEE }, "seed \(seed)")
            }
            #expect(restored == bytes, "seed \(seed)")
        }
    }

    @Test func theDefaultPathEqualsThePortableOne() {
        let bytes = (0..<1_001).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        for rotates in [false, true] {
            let cut = BytePlanes.Cut(width: 4, rotates: rotates)
            var fast = [UInt8](repeating: 0, count: bytes.count), portable = fast
            var fastBytesSpan = fast.mutableSpan
            var fastBytes = fastBytesSpan.mutableBytes
            BytePlanes.split(bytes.span.bytes, cut, into: &fastBytes)
            var portableBytesSpan = portable.mutableSpan
            var portableBytes = portableBytesSpan.mutableBytes
            BytePlanes.split(bytes.span.bytes, cut, into: &portableBytes, level: 0)
            #expect(fast == portable)
        }
    }

    @Test func onlyFloatsWithASignOnTopAreRotated() {
        let rotated = ScalarType.allCases.filter { BytePlanes.Cut($0, rotatesFloats: true).rotates }
        #expect(Set(rotated) == [.f16, .bf16, .f32, .f64, .c32, .c64, .c128])
        let widths = ScalarType.allCases.map { BytePlanes.Cut($0, rotatesFloats: true).width }
        #expect(zip(ScalarType.allCases, widths).allSatisfy { [1, 2, 4, 8].contains($1) && ($0 != .c64 || $1 == 4) })
        #expect(ScalarType.allCases.allSatisfy { !BytePlanes.Cut($0, rotatesFloats: false).rotates })
    }

    @Test func entropiesAreThoseOfThePlanes() {
        func entropies(_ bytes: [UInt8], _ width: Int, rotates: Bool = false) -> [Float] {
            bytes.withUnsafeBytes { BytePlanes.entropies($0, BytePlanes.Cut(width: width, rotates: rotates)) }
        }
        // Two values as often as each other, one value, and every value as often as any other.
        let bytes = (0..<4096).flatMap { (i: Int) -> [UInt8] in
            [UInt8(i % 2 * 9), 7, UInt8(i % 256), UInt8(i / 16 % 256)]
        }
        let found = entropies(bytes, 4)
        let expected: [Float] = [1, 0, 8, 8]
        for (bits, wanted) in zip(found, expected) {
            let distance: Float = abs(bits - wanted)
            #expect(distance < 0.001, "\(found)")
        }
        #expect(entropies([], 4) == [0, 0, 0, 0] && entropies([1, 2, 3, 4], 4) == [0, 0, 0, 0])
        // The sign alone varies: rotated, it is in the lowest byte.
        let signs = (0..<1000).flatMap { (i: Int) -> [UInt8] in [0x80, UInt8(i % 2 * 0x80 | 0x3F)] }
        #expect(entropies(signs, 2) == [0, 1] && entropies(signs, 2, rotates: true) == [1, 0])
        // A long array is sampled, and its ends alone do not decide.
        let long = (0..<1 << 20).map { (i: Int) -> UInt8 in i < 4096 ? 0 : UInt8(truncatingIfNeeded: i &* 167) }
        #expect(entropies(long, 1)[0] > 6)
    }
}
