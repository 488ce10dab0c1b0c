public import CairnBase
package import CairnTensor

/// A text as tokens, cut into windows of equal length that a language model learns to continue.
public struct TextDataset: Sendable {
    /// What made the tokens.
    public let tokenizer: Tokenizer
    /// How many tokens a window has.
    public let context: Int
    private let training: [Int32]
    private let validation: [Int32]
    private let checksum: UInt32

    /// Splits a text: the first part is for training, the rest for validation.
    ///
    /// - Parameters:
    ///   - text: the bytes, in whatever encoding.
    ///   - tokenizer: `nil` takes one token for each distinct byte.
    ///   - context: tokens in a window; each window also needs the token after it.
    ///   - validationFraction: how much of the text is kept for validation.
    /// - Throws: ``CairnError/Code/invalidArgument`` when either part is shorter than a window.
    public init(
        text: [UInt8], tokenizer: Tokenizer? = nil, context: Int, validationFraction: Double = 0.1
    ) throws(CairnError) {
        let tokenizer = tokenizer ?? .characters(of: text)
        let tokens = try tokenizer.encode(text)
        let cut = Int(Double(tokens.count) * (1 - min(1, max(0, validationFraction))))
        self.tokenizer = tokenizer
        self.context = context
        training = Array(tokens[..<cut])
        validation = Array(tokens[cut...])
        checksum = tokens.withUnsafeBytes { CRC32C.checksum(RawSpan(_unsafeBytes: $0)) }
        guard context > 0, min(training.count, validation.count) > context else {
            throw CairnError(
                .invalidArgument, "the text is too short for one training and one validation window",
                .init(expected: "more than \(context) tokens each", found: "\(training.count) and \(validation.count)"))
        }
    }
}

extension TextDataset: ExampleSource {
    package func count(_ split: Split) -> Int { (tokens(split).count - 1) / context }

    package func append(_ index: Int, of split: Split, to batch: inout Batch) {
        let tokens = tokens(split)
        let start = index * context
        batch.inputs += tokens[start..<start + context]
        batch.targets += tokens[start + 1..<start + 1 + context]
        batch.exampleCount += 1
    }

    package var identity: Value {
        .dictionary([
            "kind": .string("text"), "checksum": .unsigned(UInt64(checksum)), "context": .integer(Int64(context)),
            "training_tokens": .integer(Int64(training.count)), "validation_tokens": .integer(Int64(validation.count)),
        ])
    }

    private func tokens(_ split: Split) -> [Int32] { split == .training ? training : validation }
}
