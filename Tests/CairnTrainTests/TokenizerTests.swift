import CairnBase
import CairnTensor
import CairnTrain
import Testing

@Suite struct TokenizerTests {
    @Test func charactersRoundTripAndUnknownOnesAreRefused() throws {
        let text = Array("hello world".utf8)
        let tokenizer = Tokenizer.characters(of: text)
        #expect(tokenizer.vocabularySize == 8)
        #expect(tokenizer.decode(try tokenizer.encode(text)) == text)
        #expect(try tokenizer.encode(Array(" d".utf8)) == [0, 1])
        let error = #expect(throws: CairnError.self) { try tokenizer.encode(Array("hex".utf8)) }
        #expect(error?.context.offset == 2)
    }

    @Test func bytePairsRoundTripAnyBytesAndShortenKnownText() throws {
        let text = try Array(Fixture.bytes("kjv.txt").prefix(100_000))
        let encoding = BytePairEncoding(trainedOn: text, vocabularySize: 400)
        #expect(encoding.vocabularySize == 400)
        let tokens = encoding.encode(text)
        #expect(encoding.decode(tokens) == text)
        #expect(tokens.count * 2 < text.count, "\(tokens.count) tokens of \(text.count) bytes")
        var random = PhiloxGenerator(key: 1)
        for count in [0, 1, 2, 1000] {
            let noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(encoding.decode(encoding.encode(noise)) == noise)
        }
        #expect(BytePairEncoding(trainedOn: text, vocabularySize: 400) == encoding)
    }

    @Test func mergesAreTheMostFrequentPairsAndTheSmallestAmongEquals() {
        // "ab" four times, then "abc" twice; "xy" and "yz" once each are not merged.
        let encoding = BytePairEncoding(trainedOn: Array("ab ab abc abc xyz".utf8), vocabularySize: 300)
        #expect(encoding.merges.first == SIMD2(97, 98))
        #expect(encoding.decode([256]) == Array("ab".utf8))
        #expect(encoding.merges.count < 6)
    }

    @Test(arguments: [0, 50])
    func storedTokenizersAreEqual(merges: Int) throws {
        let text = Array("In the beginning God created the heaven and the earth, the earth, the earth.".utf8)
        let tokenizer: Tokenizer =
            merges == 0
            ? .characters(of: text) : .bytePairs(BytePairEncoding(trainedOn: text, vocabularySize: 256 + merges))
        #expect(try Tokenizer(tokenizer.value) == tokenizer)
    }

    @Test func storedMergesOfTokensThatDoNotExistAreRefused() {
        for merges in [[UInt8]([0, 1, 0, 0, 97, 0, 0, 0]), [97, 0, 0, 0], [97, 0, 0, 0, 255, 255, 255, 255]] {
            #expect(throws: CairnError.self) {
                try Tokenizer(.dictionary(["kind": "byte_pairs", "merges": .bytes(merges)]))
            }
        }
    }
}
