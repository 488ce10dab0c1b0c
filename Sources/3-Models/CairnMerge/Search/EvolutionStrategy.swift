public import CairnBase
public import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// CMA-ES: minimises a function of a few dozen numbers that can only be evaluated. (Hansen, "The CMA Evolution Strategy: A
/// Tutorial", arXiv 1604.00772, with active covariance updates and its default settings)
///
/// A value: a search that was stored with ``value`` continues bit by bit as if it had never stopped.
///
/// ```swift
/// var search = try EvolutionStrategy(start: [0.5, 0.5], step: 0.2, seed: 1)
/// while search.stopReason == nil {
///     let candidates = search.ask()
///     try search.tell(candidates.map(loss))
/// }
/// ```
public struct EvolutionStrategy: Sendable, Hashable, SearchStrategy {
    /// What stays the same all along.
    public struct Settings: Sendable, Hashable {
        /// How many candidates a generation has; `nil` for 4 + ⌊3 ln n⌋.
        public var populationCount: Int?
        /// The search ends when the best and the worst of the last generations are no further apart.
        public var valueTolerance = 1e-11
        /// The search ends when steps are no larger in any direction.
        public var stepTolerance = 1e-11
        /// The search ends behind so many evaluations.
        public var evaluationLimit = Int.max

        public init() {}
    }

    /// Why a search ended.
    public enum StopReason: String, Sendable, Hashable {
        case evaluations, values, steps, stagnation, illConditioned
    }

    package let settings: Settings
    private let constants: EvolutionConstants
    private var random: SearchRandom
    private var mean: [Double]
    private var step: Double
    private var covariance: SymmetricMatrix
    private var stepPath: [Double]
    private var covariancePath: [Double]
    private var generation = 0
    public private(set) var evaluationCount = 0
    private var bestPoint: [Double]?
    private var bestValue = Double.infinity
    /// The best values of the last generations.
    private var history: [Double] = []
    /// The candidates that wait for their values.
    private var pending: [[Double]] = []

    /// A search around a point.
    ///
    /// - Parameters:
    ///   - step: About a third of how far the best point may lie, in every coordinate.
    /// - Throws: ``CairnError/Code/invalidArgument`` for a start without numbers, or a step that is not above 0.
    public init(start: [Double], step: Double, seed: UInt64, settings: Settings = Settings()) throws(CairnError) {
        guard !start.isEmpty, start.allSatisfy(\.isFinite), step > 0, step.isFinite, settings.populationCount ?? 2 >= 2
        else {
            throw CairnError(
                .invalidArgument, "a search needs finite numbers to start from, a step above 0 and two candidates")
        }
        constants = EvolutionConstants(dimension: start.count, populationCount: settings.populationCount)
        var settings = settings
        settings.populationCount = constants.populationCount
        self.settings = settings
        self.step = step
        mean = start
        random = SearchRandom(seed: seed)
        covariance = SymmetricMatrix(identity: start.count)
        stepPath = start.map { _ in 0 }
        covariancePath = stepPath
    }

    public var best: (point: [Double], value: Double)? { bestPoint.map { ($0, bestValue) } }

    /// The candidates of the next generation; the same again until they are told.
    public mutating func ask() -> [[Double]] {
        if pending.isEmpty {
            let (axes, lengths) = covariance.axes()
            for _ in 0..<constants.populationCount {
                let draws = mean.indices.map { _ in random.normal() }
                let scaled = zip(draws, lengths).map { $0 * $1 }
                pending.append(
                    mean.indices.map { row in
                        mean[row] + step * mean.indices.reduce(0) { $0 + axes[row * mean.count + $1] * scaled[$1] }
                    })
            }
        }
        return pending
    }

    /// Takes the values of the candidates, in their order. What is not a number counts as worse than any.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when there are not as many values as candidates.
    public mutating func tell(_ values: [Double]) throws(CairnError) {
        guard values.count == pending.count, !values.isEmpty else {
            throw CairnError(
                .invalidArgument, "there are not as many values as candidates",
                .init(expected: "\(pending.count)", found: "\(values.count)"))
        }
        let values = values.map { $0.isNaN ? .infinity : $0 }
        let order = values.indices.sorted { (values[$0], $0) < (values[$1], $1) }
        evaluationCount += values.count
        if values[order[0]] < bestValue || bestPoint == nil {
            bestValue = values[order[0]]
            bestPoint = pending[order[0]]
        }
        history.append(values[order[0]])
        update(order.map { pending[$0] })
        pending = []
        generation += 1
        let kept = constants.historyCount
        if history.count > kept { history.removeFirst(history.count - kept) }
        spread = values[order[order.count - 1]] - values[order[0]]
    }

    /// How far the values of the last generation were apart.
    private var spread = Double.infinity

    private mutating func update(_ ranked: [[Double]]) {
        let count = mean.count, c = constants
        let steps = ranked.map { point in zip(point, mean).map { ($0 - $1) / step } }
        var move = [Double](repeating: 0, count: count)
        for (index, weight) in c.weights.prefix(c.parentCount).enumerated() {
            for row in 0..<count { move[row] += weight * steps[index][row] }
        }
        for row in 0..<count { mean[row] += step * move[row] }
        let (axes, lengths) = covariance.axes()
        let whitened = SymmetricMatrix.whiten(move, axes, lengths)
        let stepFactor = (c.stepRate * (2 - c.stepRate) * c.effectiveCount).squareRoot()
        for row in 0..<count { stepPath[row] = (1 - c.stepRate) * stepPath[row] + stepFactor * whitened[row] }
        let length = stepPath.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let expected = (1 - pow(1 - c.stepRate, 2 * Double(generation + 1))).squareRoot()
        let isSteady = length / expected < (1.4 + 2 / (Double(count) + 1)) * c.expectedLength
        let pathFactor = isSteady ? (c.pathRate * (2 - c.pathRate) * c.effectiveCount).squareRoot() : 0
        for row in 0..<count {
            covariancePath[row] = (1 - c.pathRate) * covariancePath[row] + pathFactor * move[row]
        }
        // Where the path stands still its part is made up for.
        let missing = isSteady ? 0 : c.rankOneRate * c.pathRate * (2 - c.pathRate)
        let kept = 1 + missing - c.rankOneRate - c.rankManyRate * c.weights.reduce(0, +)
        covariance.scale(by: kept)
        covariance.add(c.rankOneRate, covariancePath)
        for (index, weight) in c.weights.enumerated() {
            var own = weight
            if weight < 0 {
                // Bad steps count by their length, so that the matrix stays positive.
                let square = SymmetricMatrix.whiten(steps[index], axes, lengths).reduce(0) { $0 + $1 * $1 }
                own *= Double(count) / max(square, .leastNormalMagnitude)
            }
            covariance.add(c.rankManyRate * own, steps[index])
        }
        step *= exp(min(1, c.stepRate / c.stepDamping * (length / c.expectedLength - 1)))
    }

    /// Why the search has ended; `nil` while it has not.
    public var stopReason: StopReason? {
        if evaluationCount >= settings.evaluationLimit { return .evaluations }
        guard generation > 0 else { return nil }
        let (_, lengths) = covariance.axes()
        let (least, greatest) = (lengths.min() ?? 0, lengths.max() ?? 0)
        if !step.isFinite || greatest > 1e7 * least { return .illConditioned }
        if step * greatest < settings.stepTolerance { return .steps }
        let recent = history.suffix(10 + Int(30 * Double(mean.count) / Double(constants.populationCount)))
        let range = (recent.max() ?? 0) - (recent.min() ?? 0)
        if history.count >= recent.count, generation >= recent.count, range <= settings.valueTolerance,
            spread <= settings.valueTolerance
        {
            return .values
        }
        if history.count == constants.historyCount, constants.historyCount >= 40 {
            let half = history.count / 2, part = max(1, history.count * 3 / 10)
            func median(_ values: ArraySlice<Double>) -> Double { values.sorted()[values.count / 2] }
            if generation > half, median(history.prefix(part)) <= median(history.suffix(part)) { return .stagnation }
        }
        return nil
    }

    // MARK: Storing

    private static let kind = "cairn-cma-es/1"

    /// The whole state, for a checkpoint.
    public var value: Value {
        var fields: [String: Value] = [
            "kind": .string(Self.kind), "random": .unsigned(random.state), "mean": Value(mean), "step": .double(step),
            "covariance": Value(covariance.elements), "step_path": Value(stepPath),
            "covariance_path": Value(covariancePath), "generation": .integer(Int64(generation)),
            "evaluations": .integer(Int64(evaluationCount)), "best_value": .double(bestValue),
            "history": Value(history), "pending": .list(pending.map { Value($0) }), "spread": .double(spread),
            "population": .integer(Int64(constants.populationCount)),
            "value_tolerance": .double(settings.valueTolerance), "step_tolerance": .double(settings.stepTolerance),
            "evaluation_limit": .unsigned(UInt64(settings.evaluationLimit)),
        ]
        fields["best_point"] = bestPoint.map { Value($0) } ?? .null
        return .dictionary(fields)
    }

    /// A search that was stored.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for what is not a state of this strategy.
    public init(_ value: Value) throws(CairnError) {
        let fields = try SearchFields(value, kind: Self.kind)
        var settings = Settings()
        settings.populationCount = try fields.count("population", atLeast: 2)
        settings.valueTolerance = try fields.double("value_tolerance")
        settings.stepTolerance = try fields.double("step_tolerance")
        settings.evaluationLimit = Int(clamping: try fields.unsigned("evaluation_limit"))
        let mean = try fields.doubles("mean"), step = try fields.double("step")
        guard mean.count <= 4096, settings.populationCount ?? 0 <= 1 << 20 else { throw SearchFields.error("mean") }
        try self.init(start: mean, step: step, seed: try fields.unsigned("random"), settings: settings)
        let elements = try fields.doubles("covariance")
        stepPath = try fields.doubles("step_path")
        covariancePath = try fields.doubles("covariance_path")
        guard elements.count == mean.count * mean.count, elements.allSatisfy(\.isFinite), stepPath.count == mean.count,
            covariancePath.count == mean.count
        else { throw SearchFields.error("covariance") }
        covariance = SymmetricMatrix(elements: elements, count: mean.count)
        generation = try fields.count("generation")
        evaluationCount = try fields.count("evaluations")
        bestValue = try fields.double("best_value")
        if case .null = try fields["best_point"] {} else { bestPoint = try fields.doubles("best_point") }
        history = try fields.doubles("history")
        spread = try fields.double("spread")
        for point in try fields.list("pending") {
            let point = try SearchFields.doubles(point, "pending")
            guard point.count == mean.count else { throw SearchFields.error("pending") }
            pending.append(point)
        }
    }
}

/// The settings of CMA-ES that follow from the number of dimensions and of candidates.
struct EvolutionConstants: Sendable, Hashable {
    let populationCount: Int
    let parentCount: Int
    /// Of the candidates from the best on; those of the parents add up to 1, those of the others are negative.
    let weights: [Double]
    let effectiveCount: Double
    let stepRate: Double
    let stepDamping: Double
    let pathRate: Double
    let rankOneRate: Double
    let rankManyRate: Double
    /// About the length of a normally distributed vector.
    let expectedLength: Double
    /// How many best values are kept.
    let historyCount: Int

    init(dimension: Int, populationCount: Int?) {
        let n = Double(dimension)
        let count = populationCount ?? 4 + Int(3 * log(n))
        self.populationCount = count
        let raw = (1...count).map { log((Double(count) + 1) / 2) - log(Double($0)) }
        parentCount = max(1, count / 2)
        let positive = raw.prefix(parentCount).reduce(0, +)
        let squares = raw.prefix(parentCount).reduce(0) { $0 + $1 * $1 }
        effectiveCount = positive * positive / squares
        let negative = raw.dropFirst(parentCount).reduce(0, +)
        let negativeSquares = raw.dropFirst(parentCount).reduce(0) { $0 + $1 * $1 }
        stepRate = (effectiveCount + 2) / (n + effectiveCount + 5)
        stepDamping = 1 + 2 * max(0, ((effectiveCount - 1) / (n + 1)).squareRoot() - 1) + stepRate
        pathRate = (4 + effectiveCount / n) / (n + 4 + 2 * effectiveCount / n)
        rankOneRate = 2 / ((n + 1.3) * (n + 1.3) + effectiveCount)
        rankManyRate = min(
            1 - rankOneRate, 2 * (effectiveCount - 2 + 1 / effectiveCount) / ((n + 2) * (n + 2) + effectiveCount))
        expectedLength = n.squareRoot() * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        historyCount = min(2000, 20 + 100 + Int(100 * pow(n, 1.5) / Double(count)))
        // As much weight to the bad ones as keeps the matrix positive.
        let balance = negativeSquares > 0 ? negative * negative / negativeSquares : 0
        let limit =
            rankManyRate > 0
            ? min(
                1 + rankOneRate / rankManyRate, 1 + 2 * balance / (effectiveCount + 2),
                (1 - rankOneRate - rankManyRate) / (n * rankManyRate)) : 0
        weights = raw.enumerated().map { index, weight in
            if index < count / 2 || index == 0 { return weight / positive }
            return negative < 0 ? -limit * weight / negative : 0
        }
    }
}
