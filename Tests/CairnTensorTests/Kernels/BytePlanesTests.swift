import CairnBase
import CairnTensor
import CairnTesting
import Testing

@Suite struct BytePlanesTests {
    static let levels = Array(0...CRC32C.highestLevel)

    @Test(arguments: levels, [2, 4, 8]) func splittingGroupsBytesBySignificanceAtAnyLength(level: Int, width: Int) {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for count in Array(0...600) + [4_096, 10_007] {
            let offset = Int.random(in: 0...9, using: &generator)
            let bytes = (0..<offset + count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let source = bytes.span.bytes.extracting(droppingFirst: offset)
            let elements = count / width
            var expected: [UInt8] = []
            for plane in 0..<width { for i in 0..<elements { expected.append(bytes[offset + i * width + plane]) } }
            expected += bytes[(offset + elements * width)...]

            var planes = [UInt8](repeating: 0, count: count)
            var planeBytesSpan = planes.mutableSpan
            var planeBytes = planeBytesSpan.mutableBytes
            BytePlanes.split(source, elementWidth: width, into: &planeBytes, level: level)
            #expect(planes == expected, "seed \(seed), \(count) bytes")

            var restored = [UInt8](repeating: 0, count: count)
            var restoredBytesSpan = restored.mutableSpan
            var restoredBytes = restoredBytesSpan.mutableBytes
            BytePlanes.join(planes.span.bytes, elementWidth: width, into: &restoredBytes, level: level)
            #expect(restored == Array(bytes[offset...]), "seed \(seed), \(count) bytes")
        }
    }

    @Test func theDefaultPathEqualsThePortableOne() {
        let bytes = (0..<1_001).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        var fast = [UInt8](repeating: 0, count: bytes.count), portable = fast
        var fastBytesSpan = fast.mutableSpan
        var fastBytes = fastBytesSpan.mutableBytes
        BytePlanes.split(bytes.span.bytes, elementWidth: 4, into: &fastBytes)
        var portableBytesSpan = portable.mutableSpan
        var portableBytes = portableBytesSpan.mutableBytes
        BytePlanes.split(bytes.span.bytes, elementWidth: 4, into: &portableBytes, level: 0)
        #expect(fast == portable)
    }
}
