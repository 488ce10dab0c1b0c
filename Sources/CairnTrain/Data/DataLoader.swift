internal import CairnBase
public import CairnTensor

/// The order in which training examples are visited, and how far it has come.
///
/// Every epoch visits each example exactly once, in an order of its own that seed and epoch determine; so the whole state
/// is three numbers.
public struct DataLoader: Sendable, Hashable {
    /// What determines the orders.
    public let seed: UInt64
    /// How many examples an epoch has.
    public let exampleCount: Int
    /// How many passes over the data are complete.
    public private(set) var epoch = 0
    /// How many examples of this epoch have been visited.
    public private(set) var position = 0

    /// - Parameter exampleCount: at least one.
    public init(exampleCount: Int, seed: UInt64) {
        precondition(exampleCount > 0, "a loader needs examples")
        self.exampleCount = exampleCount
        self.seed = seed
    }

    /// The numbers of the next `count` examples; continues into the next epoch where this one ends.
    public mutating func next(_ count: Int) -> [Int] {
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
    public var value: Value {
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
