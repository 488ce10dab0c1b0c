internal import CairnBase

/// Byte-level byte-pair encoding (Sennrich et al. 2016): the first 256 tokens are the bytes, each further one joins two.
///
/// Merges never cross a space from the left: a word takes its leading space along.
public struct BytePairEncoding: Sendable, Hashable {
    /// What is joined into token 256, 257, …
    public let merges: [SIMD2<Int32>]

    /// How many tokens there are.
    public var vocabularySize: Int { 256 + merges.count }

    /// Learns merges from `text`, always the most frequent pair and among equals the smallest, until the vocabulary has
    /// `vocabularySize` tokens or no pair occurs twice.
    public init(trainedOn text: [UInt8], vocabularySize: Int) {
        var counts: [[Int32]: Int] = [:]
        Self.forEachWord(text) { word in counts[word.map { Int32($0) }, default: 0] += 1 }
        var words = counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { (tokens: $0.key, count: $0.value) }

        var pairCounts: [SIMD2<Int32>: Int] = [:]
        var wordsOfPair: [SIMD2<Int32>: Set<Int>] = [:]
        func count(_ index: Int, by factor: Int) {
            let (tokens, weight) = words[index]
            for (left, right) in zip(tokens, tokens.dropFirst()) {
                pairCounts[SIMD2(left, right), default: 0] += factor * weight
                if factor > 0 { wordsOfPair[SIMD2(left, right), default: []].insert(index) }
            }
        }
        for index in words.indices { count(index, by: 1) }

        var merges: [SIMD2<Int32>] = []
        while 256 + merges.count < vocabularySize {
            var best: (pair: SIMD2<Int32>, count: Int) = (SIMD2(0, 0), 1)
            for (pair, count) in pairCounts where count > best.count || count == best.count && count > 1 {
                if count > best.count || (pair.x, pair.y) < (best.pair.x, best.pair.y) { best = (pair, count) }
            }
            guard best.count > 1 else { break }
            let token = Int32(256 + merges.count)
            merges.append(best.pair)
            for index in wordsOfPair.removeValue(forKey: best.pair) ?? [] {
                count(index, by: -1)
                words[index].tokens = Self.merge(best.pair, into: token, words[index].tokens)
                count(index, by: 1)
            }
            pairCounts.removeValue(forKey: best.pair)
        }
        self.merges = merges
    }

    /// The tokens of `text`.
    public func encode(_ text: [UInt8]) -> [Int32] {
        var ranks: [SIMD2<Int32>: Int32] = [:]
        for (rank, pair) in merges.enumerated() { ranks[pair] = Int32(rank) }
        var known: [ArraySlice<UInt8>: [Int32]] = [:]
        var tokens: [Int32] = []
        Self.forEachWord(text) { word in
            if let found = known[word] {
                tokens += found
                return
            }
            var pieces = word.map { Int32($0) }
            while let first = zip(pieces, pieces.dropFirst()).compactMap({ ranks[SIMD2($0, $1)] }).min() {
                pieces = Self.merge(merges[Int(first)], into: 256 + first, pieces)
            }
            known[word] = pieces
            tokens += pieces
        }
        return tokens
    }

    /// The bytes of `tokens`; what is not a token is left out.
    public func decode(_ tokens: [Int32]) -> [UInt8] {
        var spellings: [[UInt8]] = (0...255).map { [UInt8($0)] }
        for pair in merges { spellings.append(spellings[Int(pair.x)] + spellings[Int(pair.y)]) }
        return tokens.flatMap { spellings.indices.contains(Int($0)) ? spellings[Int($0)] : [] }
    }

    /// The merges as little-endian 32-bit pairs.
    var mergeBytes: [UInt8] {
        merges.flatMap { [$0.x, $0.y] }.flatMap { token in (0..<4).map { UInt8(truncatingIfNeeded: token >> ($0 * 8)) } }
    }

    init(mergeBytes bytes: [UInt8]) throws(CairnError) {
        guard bytes.count % 8 == 0 else {
            throw CairnError(.malformed, "stored merges are not a whole number of pairs", .init(found: "\(bytes.count) bytes"))
        }
        var merges: [SIMD2<Int32>] = []
        for start in stride(from: 0, to: bytes.count, by: 8) {
            func word(_ at: Int) -> Int32 {
                (0..<4).reduce(0) { $0 | Int32(truncatingIfNeeded: UInt32(bytes[at + $1]) << UInt32($1 * 8)) }
            }
            let pair = SIMD2(word(start), word(start + 4))
            // A merge may only join tokens that exist before it.
            let limit = Int32(clamping: 256 + merges.count)
            guard (0..<limit).contains(pair.x), (0..<limit).contains(pair.y) else {
                throw CairnError(.malformed, "a stored merge joins tokens that do not exist", .init(found: "\(pair)"))
            }
            merges.append(pair)
        }
        self.merges = merges
    }

    private static func merge(_ pair: SIMD2<Int32>, into token: Int32, _ tokens: [Int32]) -> [Int32] {
        var result: [Int32] = []
        result.reserveCapacity(tokens.count)
        var index = 0
        while index < tokens.count {
            if index + 1 < tokens.count, tokens[index] == pair.x, tokens[index + 1] == pair.y {
                result.append(token)
                index += 2
            } else {
                result.append(tokens[index])
                index += 1
            }
        }
        return result
    }

    /// Words begin at each space or line end that follows something else.
    private static func forEachWord(_ text: [UInt8], _ body: (ArraySlice<UInt8>) -> Void) {
        var start = 0
        for index in text.indices.dropFirst() where text[index] == 32 || text[index] == 10 {
            body(text[start..<index])
            start = index
        }
        if start < text.count { body(text[start...]) }
    }
}
