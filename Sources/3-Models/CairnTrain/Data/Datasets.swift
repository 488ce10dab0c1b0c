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

/// Handwritten digits: 64 grey values of an 8x8 image, scaled to 0...1, and which digit it is.
public struct DigitsDataset: Sendable {
    /// How many grey values an image has.
    package static let featureCount = 64
    /// How many kinds of digits there are.
    package static let classCount = 10
    private let features: [Float]
    private let labels: [Int32]
    private let trainingCount: Int
    private let checksum: UInt32

    /// Reads lines of 64 numbers 0...16 and a label, separated by commas. Every fifth image is for validation.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for a line that has other content; ``CairnError/Code/invalidArgument`` for
    ///   fewer than five lines.
    public init(csv text: [UInt8]) throws(CairnError) {
        var training: (features: [Float], labels: [Int32]) = ([], [])
        var validation: (features: [Float], labels: [Int32]) = ([], [])
        let lines = text.split(separator: 10)
        for (number, line) in lines.enumerated() {
            let cells = line.split(separator: 44).map { Int(String(decoding: $0, as: UTF8.self)) }
            guard cells.count == 65, let label = cells[64], (0..<10).contains(label),
                cells.allSatisfy({ cell in cell.map { (0...16).contains($0) } ?? false })
            else {
                throw CairnError(.malformed, "line \(number + 1) is not 64 numbers of 0...16 and a digit")
            }
            let pixels = cells[..<64].map { Float($0 ?? 0) / 16 }
            if number % 5 == 4 {
                validation.features += pixels
                validation.labels.append(Int32(label))
            } else {
                training.features += pixels
                training.labels.append(Int32(label))
            }
        }
        guard !validation.labels.isEmpty else {
            throw CairnError(.invalidArgument, "the digits are too few to split", .init(found: "\(lines.count) lines"))
        }
        features = training.features + validation.features
        labels = training.labels + validation.labels
        trainingCount = training.labels.count
        checksum = text.withUnsafeBytes { CRC32C.checksum(RawSpan(_unsafeBytes: $0)) }
    }
}

extension DigitsDataset: ExampleSource {
    package func count(_ split: Split) -> Int {
        split == .training ? trainingCount : labels.count - trainingCount
    }

    package func append(_ index: Int, of split: Split, to batch: inout Batch) {
        let index = split == .training ? index : trainingCount + index
        batch.features += features[index * 64..<(index + 1) * 64]
        batch.targets.append(labels[index])
        batch.exampleCount += 1
    }

    package var identity: Value {
        .dictionary([
            "kind": .string("digits"), "checksum": .unsigned(UInt64(checksum)),
            "example_count": .integer(Int64(labels.count)),
        ])
    }
}
