/// What becomes of a tensor after its method, one update after the other.
public enum TensorUpdate: Sendable, Hashable {
    /// A product of two small matrices is added to a weight.
    case product(LowRankUpdate)
    /// A tensor of the same shape is added, times a number.
    case sum(TensorRecipe.Operand, scale: Double)
    /// Rows of a tensor take the places of these of a matrix.
    case rows(TensorRecipe.Operand, at: [Int])
    /// A tensor of the same shape takes the place.
    case replacement(TensorRecipe.Operand)
}

/// A product of two small matrices that is added to a weight.
///
/// Weights of more than two dimensions are matrices of the first by all others, as those of convolutions are, or stacks of
/// matrices. In a stack `down` holds the matrices one after the other, and of each row of `up` the numbers of one matrix
/// after those of the others, as PEFT does it for experts.
public struct LowRankUpdate: Sendable, Hashable {
    /// `[rank, inputs]`.
    public var down: TensorRecipe.Operand
    /// `[outputs, rank]`.
    public var up: TensorRecipe.Operand
    /// What the product is multiplied by.
    public var scale: Double
    /// Whether the weight is stored as `[inputs, outputs]`.
    public var isTransposed: Bool
    /// How many matrices of their own the weight's first dimension counts.
    public var stackCount: Int
    /// The lengths that the weight's outputs get afterwards (DoRA, Liu et al., ICML 2024).
    public var magnitude: TensorRecipe.Operand?
    /// Whether the product is rounded to the weight's type before it is added.
    public var roundsProduct: Bool

    public init(
        down: TensorRecipe.Operand, up: TensorRecipe.Operand, scale: Double, isTransposed: Bool = false,
        stackCount: Int = 1, magnitude: TensorRecipe.Operand? = nil, roundsProduct: Bool = false
    ) {
        self.down = down
        self.up = up
        self.scale = scale
        self.isTransposed = isTransposed
        self.stackCount = stackCount
        self.magnitude = magnitude
        self.roundsProduct = roundsProduct
    }
}
