public import CairnTensor

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
    /// What becomes of it then, of a merge with updates.
    public var updates: [TensorUpdate]
    /// The name in the result of the tensor that this one is, if it is one with another.
    public var tiedTo: String?
    /// The type of its elements; `nil` for what the operands and the merge's options come to.
    public var scalarType: ScalarType?

    public init(
        name: String, operands: [Operand], method: MergeMethod, updates: [TensorUpdate] = [], tiedTo: String? = nil,
        scalarType: ScalarType? = nil
    ) {
        self.name = name
        self.operands = operands
        self.method = method
        self.updates = updates
        self.tiedTo = tiedTo
        self.scalarType = scalarType
    }
}
