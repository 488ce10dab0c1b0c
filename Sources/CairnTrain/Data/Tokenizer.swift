public import CairnBase
public import CairnTensor

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
    public var value: Value {
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
    public init(_ value: Value) throws(CairnError) {
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
