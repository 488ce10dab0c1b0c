internal import CairnBase
package import CairnTensor

/// The order in which training examples are visited, and how far it has come.
///
/// Every epoch visits each example exactly once, in an order of its own that seed and epoch determine; so the whole state
/// is three numbers.
package struct DataLoader: Sendable, Hashable {
    /// What determines the orders.
    package let seed: UInt64
    /// How many examples an epoch has.
    package let exampleCount: Int
    /// How many passes over the data are complete.
    package private(set) var epoch = 0
    /// How many examples of this epoch have been visited.
    package private(set) var position = 0

    /// - Parameter exampleCount: at least one.
    package init(exampleCount: Int, seed: UInt64) {
        precondition(exampleCount > 0, "a loader needs examples")
        self.exampleCount = exampleCount
        self.seed = seed
    }

    /// The numbers of the next `count` examples; continues into the next epoch where this one ends.
    package mutating func next(_ count: Int) -> [Int] {
        var indices: [Int] = []
        indices.reserveCapacity(count)
        var order = Permutation(count: exampleCount, key: seed, variant: UInt64(epoch))
        while indices.count < count {
            indices.append(order[position])
            position += 1
            if position == exampleCount {
                position = 0
                epoch += 1
                order = Permutation(count: exampleCount, key: seed, variant: UInt64(epoch))
            }
        }
        return indices
    }

    /// The state as a value to store.
    package var value: Value {
        .dictionary([
            "kind": .string("feistel-philox"), "seed": .unsigned(seed), "example_count": .integer(Int64(exampleCount)),
            "epoch": .integer(Int64(epoch)), "position": .integer(Int64(position)),
        ])
    }

    init(_ fields: ValueFields) throws(CairnError) {
        try fields.expect("kind", .string("feistel-philox"))
        seed = try fields.unsigned("seed")
        exampleCount = try fields.integer("example_count", in: 1...ValueFields.largestCount)
        epoch = try fields.integer("epoch")
        position = try fields.integer("position", in: 0...(exampleCount - 1))
        try fields.allowOnly(["kind", "seed", "example_count", "epoch", "position"])
    }
}

/// Which part of the data.
public enum Split: Sendable, Hashable {
    /// What the model learns from.
    case training
    /// What it never sees but in evaluation.
    case validation
}

/// Numbered examples.
package protocol ExampleSource: Sendable {
    func count(_ split: Split) -> Int
    /// Appends the example to the batch.
    func append(_ index: Int, of split: Split, to batch: inout Batch)
    /// What tells this data from other data, for the stored state.
    var identity: Value { get }
}

/// Examples gathered for one step: either `inputs` (tokens) or `features` (numbers) is filled, and `targets`.
package struct Batch: Sendable {
    /// [example, position]
    package var inputs: [Int32] = []
    /// [example, feature]
    package var features: [Float] = []
    /// [example, position]; for a classifier one a row
    package var targets: [Int32] = []
    package var exampleCount = 0

    package init() {}

    mutating func removeAll() {
        inputs.removeAll(keepingCapacity: true)
        features.removeAll(keepingCapacity: true)
        targets.removeAll(keepingCapacity: true)
        exampleCount = 0
    }
}

/// Part of a batch by address.
///
/// `@unchecked Sendable`: read only, and only while the batch is borrowed.
package struct Examples: @unchecked Sendable {
    let inputs: UnsafePointer<Int32>?
    let inputStride: Int
    let features: UnsafePointer<Float>?
    let featureStride: Int
    let targets: UnsafePointer<Int32>
    let targetStride: Int
    let count: Int

    /// A range of these.
    package subscript(range: Range<Int>) -> Examples {
        Examples(
            inputs: inputs.map { $0 + range.lowerBound * inputStride }, inputStride: inputStride,
            features: features.map { $0 + range.lowerBound * featureStride }, featureStride: featureStride,
            targets: targets + range.lowerBound * targetStride, targetStride: targetStride, count: range.count)
    }
}

extension Batch {
    /// Calls `body` with all examples by address.
    package func withExamples<Result>(_ body: (Examples) throws -> Result) rethrows -> Result {
        guard exampleCount > 0 else { return try withNoExamples(body) }
        return try inputs.withUnsafeBufferPointer { inputs in
            try features.withUnsafeBufferPointer { features in
                try targets.withUnsafeBufferPointer { targets in
                    guard let firstTarget = targets.baseAddress else { preconditionFailure("examples without targets") }
                    return try body(
                        Examples(
                            inputs: inputs.isEmpty ? nil : inputs.baseAddress,
                            inputStride: inputs.count / exampleCount,
                            features: features.isEmpty ? nil : features.baseAddress,
                            featureStride: features.count / exampleCount, targets: firstTarget,
                            targetStride: targets.count / exampleCount, count: exampleCount))
                }
            }
        }
    }

    /// No examples of tokens: a pass over them computes nothing.
    private func withNoExamples<Result>(_ body: (Examples) throws -> Result) rethrows -> Result {
        try withUnsafePointer(to: Int32(0)) { nothing in
            try body(
                Examples(
                    inputs: nothing, inputStride: 0, features: nil, featureStride: 0, targets: nothing,
                    targetStride: 0, count: 0))
        }
    }
}

/// A random order of `0..<count` that is computed, not stored: any element of it in constant time and no memory.
///
/// A Feistel network over the smallest even number of bits that holds `count`, with Philox as round function; results out
/// of range walk on along their cycle (Black and Rogaway 2002), so what remains is a bijection of `0..<count`.
package struct Permutation: Sendable {
    package let count: Int
    private let key: SIMD2<UInt32>
    private let variant: UInt64
    private let halfBits: Int

    /// - Parameter variant: which of the key's orders; the epoch, say.
    package init(count: Int, key: UInt64, variant: UInt64) {
        self.count = count
        self.key = SIMD2(UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32))
        self.variant = variant
        let bits = Int.bitWidth - max(1, count - 1).leadingZeroBitCount
        halfBits = min(31, (bits + 1) / 2)
    }

    /// The element at `index` of the order.
    package subscript(index: Int) -> Int {
        var element = encrypt(UInt64(index))
        while element >= UInt64(count) { element = encrypt(element) }
        return Int(element)
    }

    private func encrypt(_ value: UInt64) -> UInt64 {
        let mask = UInt64(1) << UInt64(halfBits) - 1
        var left = value >> UInt64(halfBits)
        var right = value & mask
        for round in 0..<6 {
            let mixed = Philox.block(
                counter: SIMD4(
                    UInt32(truncatingIfNeeded: right), UInt32(round), UInt32(truncatingIfNeeded: variant),
                    UInt32(truncatingIfNeeded: variant >> 32)),
                key: key)
            (left, right) = (right, left ^ UInt64(mixed.x) & mask)
        }
        return left << UInt64(halfBits) | right
    }
}
