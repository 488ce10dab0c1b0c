public import CairnBase
package import CairnTensor

/// Turns text into tokens and back.
public enum Tokenizer: Sendable, Hashable {
    /// One token for each distinct byte of a text, in byte order.
    case characters([UInt8])
    /// Pairs of tokens merged in order of frequency, from single bytes up.
    case bytePairs(BytePairEncoding)

    /// How many tokens there are.
    public var vocabularySize: Int {
        switch self {
        case .characters(let vocabulary): vocabulary.count
        case .bytePairs(let encoding): encoding.vocabularySize
        }
    }

    /// The tokenizer of a text's own bytes.
    public static func characters(of text: [UInt8]) -> Tokenizer {
        var seen = [Bool](repeating: false, count: 256)
        for byte in text { seen[Int(byte)] = true }
        return .characters((0..<256).filter { seen[$0] }.map { UInt8($0) })
    }

    /// The tokens of `text`.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a byte that has no token.
    public func encode(_ text: [UInt8]) throws(CairnError) -> [Int32] {
        switch self {
        case .bytePairs(let encoding): return encoding.encode(text)
        case .characters(let vocabulary):
            var tokens = [Int32](repeating: -1, count: 256)
            for (token, byte) in vocabulary.enumerated() { tokens[Int(byte)] = Int32(token) }
            if let index = text.firstIndex(where: { tokens[Int($0)] < 0 }) {
                throw CairnError(
                    .invalidArgument, "the text has a byte that the vocabulary lacks",
                    .init(offset: index, found: "\(text[index])"))
            }
            return text.map { tokens[Int($0)] }
        }
    }

    /// The text of `tokens`; what is not a token of this vocabulary is left out.
    public func decode(_ tokens: [Int32]) -> [UInt8] {
        switch self {
        case .bytePairs(let encoding): encoding.decode(tokens)
        case .characters(let vocabulary):
            tokens.compactMap { vocabulary.indices.contains(Int($0)) ? vocabulary[Int($0)] : nil }
        }
    }

    /// The vocabulary as a value to store.
    package var value: Value {
        switch self {
        case .characters(let vocabulary):
            .dictionary(["kind": .string("characters"), "vocabulary": .bytes(vocabulary)])
        case .bytePairs(let encoding):
            .dictionary(["kind": .string("byte_pairs"), "merges": .bytes(encoding.mergeBytes)])
        }
    }

    /// The tokenizer that ``value`` stored.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` or ``CairnError/Code/incomplete`` when the value is none.
    package init(_ value: Value) throws(CairnError) {
        let fields = try ValueFields("tokenizer", value)
        switch try fields.string("kind") {
        case "characters":
            guard case .bytes(let vocabulary) = try fields.field("vocabulary") else {
                throw ValueFields.wrong("tokenizer.vocabulary", "bytes", value)
            }
            self = .characters(vocabulary)
        case "byte_pairs":
            guard case .bytes(let bytes) = try fields.field("merges") else {
                throw ValueFields.wrong("tokenizer.merges", "bytes", value)
            }
            self = .bytePairs(try BytePairEncoding(mergeBytes: bytes))
        case let kind:
            throw ValueFields.wrong("tokenizer.kind", "characters or byte_pairs", .string(kind))
        }
    }
}

/// Byte-level byte-pair encoding (Sennrich et al. 2016): the first 256 tokens are the bytes, each further one joins two.
///
/// Merges never cross a space from the left: a word takes its leading space along.
public struct BytePairEncoding: Sendable, Hashable {
    /// What is joined into token 256, 257, …
    package let merges: [SIMD2<Int32>]

    /// How many tokens there are.
    package var vocabularySize: Int { 256 + merges.count }

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
    package func encode(_ text: [UInt8]) -> [Int32] {
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
    package func decode(_ tokens: [Int32]) -> [UInt8] {
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
