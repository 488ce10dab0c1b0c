public import CairnBase
public import CairnTensor

/// What a model makes of a few fixed sequences: tells whether a checkpoint, however it was loaded, converted, divided
/// or rewritten, still computes what it did when it was saved. Checksums tell that of its bytes, not of its meaning.
public struct Fingerprint: Sendable, Hashable {
    /// The difference that rounding alone explains, in nats.
    public static let tolerance = 1e-4

    /// The mean loss of each of the first validation examples.
    public var losses: [Double]

    public init(losses: [Double]) { self.losses = losses }

    /// The fingerprint that a checkpoint's value `fingerprint` tells.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` for what is not a fingerprint.
    public init(_ value: Value?) throws(CairnError) {
        let fields = try ValueFields("fingerprint", value)
        try fields.expect("kind", "example-losses")
        losses = try fields.doubles("losses")
        try fields.allowOnly(["kind", "losses"])
    }

    /// As a value to store.
    public var value: Value {
        .dictionary(["kind": "example-losses", "losses": .list(losses.map { .double($0) })])
    }

    /// The largest difference of an example's loss; infinite where not the same examples were looked at, or a loss is not
    /// a number.
    public func difference(from other: Fingerprint) -> Double {
        guard losses.count == other.losses.count, !losses.isEmpty else { return .infinity }
        return zip(losses, other.losses).reduce(0) { largest, pair in
            let difference = abs(pair.0 - pair.1)
            return difference.isFinite ? max(largest, difference) : .infinity
        }
    }
}

extension Trainer {
    /// What the model makes of the first `exampleCount` validation examples.
    public func fingerprint(exampleCount: Int = 8) -> Fingerprint {
        Fingerprint(
            losses: (0..<min(exampleCount, source.count(.validation))).map { evaluate(.validation, $0..<$0 + 1).loss })
    }
}

extension ParallelTrainer {
    /// What the model makes of the first `exampleCount` validation examples. A collective call.
    public func fingerprint(exampleCount: Int = 8) throws -> Fingerprint {
        let count = min(exampleCount, source.count(.validation))
        return Fingerprint(losses: try (0..<count).map { try evaluate(.validation, $0..<$0 + 1).loss })
    }
}
