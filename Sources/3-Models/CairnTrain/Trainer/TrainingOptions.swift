internal import CairnBase
package import CairnCheckpoint
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
    /// Whether half of the parts of a step go through the first two blocks, and through the last two, in the other order
    /// (CheckFree+, Blagoev et al. 2025): each of these then learns to stand in for the one beside it.
    public var swapsEnds = false
    /// Names of parameters that are not trained: they stay as they are, and so do their moments. Their gradients count in the
    /// norm that clipping looks at.
    package var frozen: [GlobPattern] = []

    /// Whether a parameter is not trained.
    func isFrozen(_ parameter: ParameterSpecification) -> Bool { frozen.contains { $0.matches(parameter.name) } }

    /// - Throws: ``CairnError/Code/notFound`` for a pattern that fits no parameter: what was meant would be trained.
    func checkFrozen(_ parameters: [ParameterSpecification]) throws(CairnError) {
        for pattern in frozen where !parameters.contains(where: { pattern.matches($0.name) }) {
            throw CairnError(
                .notFound, "no parameter fits what is not to be trained",
                .init(
                    expected: "names such as \(parameters.prefix(3).map(\.name).joined(separator: ", "))",
                    found: pattern.text.debugDescription))
        }
    }

    public init() {}
}

/// The weights as numbers to compute with: themselves, or expanded where the model keeps rounded ones.
struct ExpandedWeights: Sendable {
    private let offsets: [Int]
    private let arena: Arena
    private let isExpanded: Bool
    private let base: SharedElements<Float>

    init(_ parameters: [ParameterSpecification], _ precision: WeightPrecision, _ arena: Arena) {
        var offsets: [Int] = []
        var size = 0
        for parameter in parameters {
            offsets.append(size)
            size += parameter.shape.elementCount.dividedRoundingUp(by: 16) * 16
        }
        self.offsets = offsets
        self.arena = arena
        isExpanded = precision != .float32
        let count = isExpanded ? size : 0
        base = SharedElements(UnsafeMutableBufferPointer(start: arena.floats(count), count: count))
    }

    /// Follows a change of the weights.
    func update(_ weights: [Tensor]) {
        guard isExpanded else { return }
        for (tensor, offset) in zip(weights, offsets) {
            tensor.bytes.withUnsafeBytes { bytes in
                let rounded = bytes.assumingMemoryBound(to: BFloat16.self)
                for index in rounded.indices { base[offset + index] = Float(rounded[index]) }
            }
        }
    }

    /// Calls `body` with the weights' addresses, which hold as long as it runs.
    func withPointers<Result>(_ weights: [Tensor], _ body: (ParameterPointers) throws -> Result) rethrows -> Result {
        if isExpanded, let start = base.elements.baseAddress {
            return try body(ParameterPointers(offsets.map { UnsafePointer(start + $0) }))
        }
        defer { withExtendedLifetime(weights) {} }
        return try body(
            ParameterPointers(
                weights.map { tensor in
                    UnsafePointer((tensor.storage.base + tensor.byteOffset).assumingMemoryBound(to: Float.self))
                }))
    }
}
