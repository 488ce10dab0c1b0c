/// What two shard sets tell of one tensor.
struct InferredPlacement: Hashable {
    /// Steps on the one axis; empty for what is replicated.
    var steps: [On] = []
    var transforms: [RuleTransform] = []
    var shape: [IntegerExpression]?
    /// How sure it is, and why.
    var remark: String
    /// Whether a person should look at it.
    var isGuess = false
}
