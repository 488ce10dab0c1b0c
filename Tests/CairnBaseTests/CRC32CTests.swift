import CairnBase
import CairnTesting
import Testing

@Suite struct CRC32CTests {
    static let levels = Array(0...CRC32C.highestLevel)

    static func randomBytes(count: Int, using generator: inout some RandomNumberGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    /// One bit at a time, from the definition.
    static func reference(_ bytes: some Sequence<UInt8>) -> UInt32 {
        var register: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            register ^= UInt32(byte)
            for _ in 0..<8 { register = (register >> 1) ^ (register & 1 == 1 ? 0x82F6_3B78 : 0) }
        }
        return ~register
    }

    @Test(arguments: levels) func vectorsOfRFC3720Hold(level: Int) {
        let vectors: [([UInt8], UInt32)] = [
            (Array("123456789".utf8), 0xE306_9283),
            (Array(repeating: 0, count: 32), 0x8A91_36AA),
            (Array(repeating: 0xFF, count: 32), 0x62A8_AB43),
            (Array(0..<32), 0x46DD_794E),
            ((0..<32).reversed().map { UInt8($0) }, 0x113F_DB5C),
            ([], 0),
        ]
        for (bytes, expected) in vectors {
            #expect(CRC32C.checksum(bytes.span.bytes, level: level) == expected)
            #expect(CRC32C.checksum(bytes.span.bytes) == expected)
        }
    }

    @Test(arguments: levels) func everyLevelAgreesWithTheDefinitionOnAnyLengthAndAlignment(level: Int) {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let bytes = Self.randomBytes(count: 400_100, using: &generator)
        let lengths = Array(0...700) + (0..<40).map { _ in Int.random(in: 0...19_900, using: &generator) } + [400_000]
        for length in lengths {
            let start = Int.random(in: 0...99, using: &generator)
            let expected = Self.reference(bytes[start..<start + length])
            let found = CRC32C.checksum(bytes.span.bytes.extracting(start..<start + length), level: level)
            #expect(found == expected, "seed \(seed), start \(start), length \(length)")
        }
    }

    @Test(arguments: levels) func piecesChainToTheWhole(level: Int) {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<100 {
            let bytes = Self.randomBytes(count: Int.random(in: 1...9_000, using: &generator), using: &generator)
            let cut = Int.random(in: 0...bytes.count, using: &generator)
            let first = CRC32C.checksum(bytes.span.bytes.extracting(first: cut), level: level)
            let rest = bytes.span.bytes.extracting(droppingFirst: cut)
            let whole = CRC32C.checksum(bytes.span.bytes)
            #expect(CRC32C.checksum(rest, continuing: first, level: level) == whole, "seed \(seed), cut \(cut)")
        }
    }
}
