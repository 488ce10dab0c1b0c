internal import CairnTensor

/// How the model's weights are kept.
public enum WeightPrecision: String, Sendable, Hashable, CaseIterable {
    /// 32-bit floats.
    case float32 = "f32"
    /// BF16 weights, rounded from 32-bit master copies that the optimizer keeps. Sums are 32-bit all the same.
    case bfloat16WithMaster = "bf16_with_master"

    /// The type of the weights.
    var scalarType: ScalarType { self == .float32 ? .f32 : .bf16 }
}

/// What belongs to a training run besides model, data and optimizer.
public struct TrainingOptions: Sendable, Hashable {
    /// Examples in a step.
    public var batchSize = 16
    /// Determines the first weights and the order of the examples.
    public var seed: UInt64 = 0
    /// Gradients whose norm over all parameters is larger are scaled down to it; `nil` leaves them.
    public var maximumGradientNorm: Double? = 1
    public var precision = WeightPrecision.float32
    /// Into how many parts a step's examples are divided; their gradients are added in order. The bits of the result
    /// depend on it, and not on how many threads there are.
    public var gradientParts = 4
    /// The moving average of the weights that is kept beside them, if one is.
    public var average: WeightAverage?

    public init() {}
}
