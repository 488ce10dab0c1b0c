import CairnBase
import Testing

/// What fingerprints, names and seeds are made of must stay the same for ever.
@Suite struct HashingTests {
    @Test(
        arguments: [
            ("", 0xCBF2_9CE4_8422_2325), ("a", 0xAF63_DC4C_8601_EC8C), ("foobar", 0x8594_4171_F739_67E8),
        ] as [(String, UInt64)])
    func publishedVectorsOfFNV1aHold(text: String, expected: UInt64) {
        var (ofText, ofBytes, ofWords) = (Hash64(), Hash64(), Hash64())
        ofText.combine(text)
        ofBytes.combine(Array(text.utf8).span.bytes)
        for byte in text.utf8 { ofWords.combine(UInt64(byte)) }
        #expect([ofText.value, ofBytes.value, ofWords.value] == [expected, expected, expected])
    }

    @Test func publishedNumbersOfSplitMix64ComeInOrder() {
        var generator = SplitMix64(seed: 1_234_567)
        let numbers = (0..<5).map { _ in generator.next() }
        #expect(
            numbers == [
                6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
                4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
            ])
        var continued = SplitMix64(seed: 1_234_567 &+ 4 &* SplitMix64.increment)
        #expect(continued.next() == numbers[4])
    }
}
