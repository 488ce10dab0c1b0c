/// A way to make one tensor of several of the same shape. `Docs/Merging.md` has the formulas and where they come from.
///
/// Weights and sparsifications are in the order of the operands; methods with a base have it as operand 0, before those.
public enum MergeMethod: Sendable, Hashable {
    /// Σ wᵢTᵢ, divided by Σ wᵢ where it normalizes.
    case linear(weights: [Double], normalizes: Bool = true)
    /// From operand 0 (`t` = 0) to operand 1 (`t` = 1) along the arc between them.
    case slerp(t: Double)
    /// The weighted mean on the sphere, in the tangent space at the straight mean. With `hasBase` operand 0 is the origin.
    case multiSlerp(weights: [Double], normalizes: Bool = true, hasBase: Bool = false, epsilon: Double = 1e-8)
    /// The point of the sphere with the least sum of squared arcs to the operands' directions.
    case karcher(iterationLimit: Int = 10, tolerance: Double = 1e-5)
    /// Base + λ Σ wᵢ(Tᵢ − base), in many variants.
    case taskVectors(TaskVectorMethod)
    /// Between the mean of the operands and the base, operand 0, as far as their angles suggest.
    case modelStock
    /// The only operand, as it is or multiplied by a number.
    case passthrough(scale: Double? = nil)
    /// The only operand after the recipe's updates.
    case updates
}

/// How differences from a base are sparsified, weighed and put together.
public struct TaskVectorMethod: Sendable, Hashable {
    /// Which elements of a task vector stay.
    package enum Sparsification: Sendable, Hashable {
        case none
        /// This part of the elements, those of greatest magnitude. (TIES)
        case largest(density: Double)
        /// This part of the elements, without the `outliers` of greatest magnitude, as far as there are enough. (Breadcrumbs)
        case middle(density: Double, outliers: Double)
        /// Each element with this probability. (DARE)
        case random(density: Double)
    }

    /// What the elements that stay are multiplied by.
    public enum Rescaling: Sendable, Hashable {
        case none
        /// What makes the sum of the magnitudes what it was, as mergekit does.
        case sumOfMagnitudes
        /// One over the density, as the paper of DARE does.
        case inverseDensity
    }

    /// One for each task vector.
    package var weights: [Double]
    /// One for each task vector.
    package var sparsifications: [Sparsification]
    /// What the elements that stay are multiplied by.
    package var rescaling: Rescaling
    /// Whether only those elements count whose sign is that of the weighted sum.
    package var takesMajority: Bool
    /// Whether the sum is divided by the sum of the weights that took part.
    package var normalizes: Bool
    /// What the sum is multiplied by.
    package var lambda: Double

    package init(
        weights: [Double], sparsifications: [Sparsification] = [], rescaling: Rescaling = .none, takesMajority: Bool = false,
        normalizes: Bool = false, lambda: Double = 1
    ) {
        self.weights = weights
        self.sparsifications = sparsifications.isEmpty ? weights.map { _ in .none } : sparsifications
        self.rescaling = rescaling
        self.takesMajority = takesMajority
        self.normalizes = normalizes
        self.lambda = lambda
    }
}

extension MergeMethod {
    /// Base + λ Σ wᵢ(Tᵢ − base). (Ilharco et al., ICLR 2023)
    public static func taskArithmetic(weights: [Double], lambda: Double = 1) -> MergeMethod {
        .taskVectors(TaskVectorMethod(weights: weights, lambda: lambda))
    }

    /// The largest elements of each task vector, those of the majority's sign, averaged. (Yadav et al., NeurIPS 2023)
    public static func ties(weights: [Double], density: Double, lambda: Double = 1) -> MergeMethod {
        .taskVectors(
            TaskVectorMethod(
                weights: weights, sparsifications: weights.map { _ in .largest(density: density) }, takesMajority: true,
                normalizes: true, lambda: lambda))
    }

    /// Random elements of each task vector, rescaled. (Yu et al., ICML 2024)
    public static func dare(
        weights: [Double], density: Double, rescaling: TaskVectorMethod.Rescaling = .sumOfMagnitudes,
        takesMajority: Bool = false, lambda: Double = 1
    ) -> MergeMethod {
        .taskVectors(
            TaskVectorMethod(
                weights: weights, sparsifications: weights.map { _ in .random(density: density) }, rescaling: rescaling,
                takesMajority: takesMajority, lambda: lambda))
    }

    /// Each task vector without its largest and its smallest elements. (Davari and Belilovsky, ECCV 2024)
    public static func breadcrumbs(
        weights: [Double], density: Double, outliers: Double = 0.01, takesMajority: Bool = false, lambda: Double = 1
    ) -> MergeMethod {
        .taskVectors(
            TaskVectorMethod(
                weights: weights, sparsifications: weights.map { _ in .middle(density: density, outliers: outliers) },
                takesMajority: takesMajority, lambda: lambda))
    }

    /// How many operands it needs, or why it cannot be.
    func operandCount() throws(MergeMethodProblem) -> ClosedRange<Int> {
        switch self {
        case .linear(let weights, let normalizes):
            try Self.check(weights)
            if normalizes { try Self.checkSum(weights) }
            return weights.count...weights.count
        case .slerp(let t):
            guard t.isFinite else { throw MergeMethodProblem("t is not a number") }
            return 2...2
        case .multiSlerp(let weights, let normalizes, let hasBase, let epsilon):
            try Self.check(weights)
            guard epsilon >= 0, epsilon.isFinite else { throw MergeMethodProblem("eps is negative or no number") }
            if normalizes { try Self.checkSum(weights) }
            let count = weights.count + (hasBase ? 1 : 0)
            return count...count
        case .karcher(let limit, let tolerance):
            guard (0...10_000).contains(limit), tolerance > 0 else {
                throw MergeMethodProblem(
                    "max_iter must be from 0 to 10000, and tol above 0 (got \(limit) and \(tolerance))")
            }
            return 1...Self.greatestCount
        case .taskVectors(let method):
            try Self.check(method.weights, allowsNone: true)
            guard method.sparsifications.count == method.weights.count else {
                throw MergeMethodProblem("there are not as many sparsifications as weights")
            }
            guard method.lambda.isFinite else { throw MergeMethodProblem("lambda is not a number") }
            for sparsification in method.sparsifications { try sparsification.check() }
            return method.weights.count + 1...method.weights.count + 1
        case .modelStock: return 3...Self.greatestCount
        case .passthrough(let scale):
            if let scale, !scale.isFinite { throw MergeMethodProblem("scale is not a number") }
            return 1...1
        case .updates: return 1...1
        }
    }

    /// More would not fit the kernels' blocks.
    static let greatestCount = 64

    private static func check(_ weights: [Double], allowsNone: Bool = false) throws(MergeMethodProblem) {
        guard allowsNone || !weights.isEmpty else { throw MergeMethodProblem("there are no weights") }
        guard weights.count <= greatestCount || !allowsNone else {
            throw MergeMethodProblem("more than \(greatestCount) task vectors are not merged at once")
        }
        guard weights.allSatisfy(\.isFinite) else { throw MergeMethodProblem("a weight is not a number") }
    }

    private static func checkSum(_ weights: [Double]) throws(MergeMethodProblem) {
        guard abs(weights.reduce(0, +)) > leastSum(of: weights) else {
            throw MergeMethodProblem(
                "the weights add up to zero", advice: "take other weights, or none that are divided by their sum")
        }
    }

    /// A sum of weights up to this is what their rounding leaves of zero, as of 0.1 + 0.2 − 0.3.
    static func leastSum(of weights: [Double]) -> Double {
        guard haveBothSigns(weights) else { return 0 }
        let sizes = weights.map(\.magnitude).filter { $0 > 0 }
        return min(1e-12 * sizes.reduce(0, +), (sizes.min() ?? 0) / 2)
    }

    static func haveBothSigns(_ weights: [Double]) -> Bool {
        weights.contains { $0 > 0 } && weights.contains { $0 < 0 }
    }

    /// Whether a sum with these coefficients is much less than its parts, so that single precision would round too much.
    static func cancels(_ coefficients: [Double]) -> Bool {
        coefficients.reduce(0) { $0 + $1.magnitude } > 8 * coefficients.reduce(0, +).magnitude
    }

    /// Whether parts of a sum with these coefficients can be much more than it.
    static func areLarge(_ coefficients: [Double]) -> Bool { coefficients.reduce(0) { $0 + $1.magnitude } > 8 }

    /// The coefficients of the operands, where they are the same for every tensor.
    var coefficients: [Double?] {
        switch self {
        case .linear(let weights, let normalizes):
            let sum = normalizes ? weights.reduce(0, +) : 1
            return weights.map { $0 / sum }
        case .slerp(let t): return [1 - t, t]
        case .multiSlerp(let weights, _, let hasBase, _): return (hasBase ? [nil] : []) + weights
        case .taskVectors(let method): return [nil] + method.weights
        case .passthrough(let scale): return [scale ?? 1]
        case .karcher, .modelStock, .updates: return []
        }
    }
}

/// Why a method cannot be carried out.
struct MergeMethodProblem: Error {
    let message: String
    let advice: String?

    init(_ message: String, advice: String? = nil) {
        self.message = message
        self.advice = advice
    }
}

extension TaskVectorMethod.Sparsification {
    func check() throws(MergeMethodProblem) {
        switch self {
        case .none: break
        case .largest(let density), .random(let density): try Self.check(density, "a density")
        case .middle(let density, let outliers):
            try Self.check(density, "a density")
            try Self.check(outliers, "the part of the outliers (gamma)")
        }
    }

    private static func check(_ part: Double, _ what: String) throws(MergeMethodProblem) {
        guard part >= 0, part <= 1 else { throw MergeMethodProblem("\(what) must be from 0 to 1 (got \(part))") }
    }
}
