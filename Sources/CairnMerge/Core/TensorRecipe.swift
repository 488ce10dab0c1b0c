/// How one tensor of a merge comes to be.
public struct TensorRecipe: Sendable {
    /// A tensor of an input.
    public struct Operand: Sendable, Hashable {
        /// The position of the input among those of the merge.
        public var input: Int
        /// The tensor's name there.
        public var name: String

        public init(input: Int, name: String) {
            self.input = input
            self.name = name
        }
    }

    /// The name in the result.
    public var name: String
    /// What it is made of, in the order that the method wants. All have the shape of the first.
    public var operands: [Operand]
    /// How it is made.
    public var method: MergeMethod
    /// Small matrices that belong to it, of a merge with low-rank updates.
    public var updates: [LowRankUpdate]
    /// The name in the result of the tensor that this one is, if it is one with another.
    public var tiedTo: String?

    public init(
        name: String, operands: [Operand], method: MergeMethod, updates: [LowRankUpdate] = [], tiedTo: String? = nil
    ) {
        self.name = name
        self.operands = operands
        self.method = method
        self.updates = updates
        self.tiedTo = tiedTo
    }
}

/// A product of two small matrices that is added to a weight.
public struct LowRankUpdate: Sendable, Hashable {
    /// `[rank, inputs]`.
    public var down: TensorRecipe.Operand
    /// `[outputs, rank]`.
    public var up: TensorRecipe.Operand
    /// What the product is multiplied by.
    public var scale: Double
    /// Whether the weight is stored as `[inputs, outputs]`.
    public var isTransposed: Bool

    public init(down: TensorRecipe.Operand, up: TensorRecipe.Operand, scale: Double, isTransposed: Bool = false) {
        self.down = down
        self.up = up
        self.scale = scale
        self.isTransposed = isTransposed
    }
}
