#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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
        let limit = rankManyRate > 0
            ? min(
                1 + rankOneRate / rankManyRate, 1 + 2 * balance / (effectiveCount + 2),
                (1 - rankOneRate - rankManyRate) / (n * rankManyRate)) : 0
        weights = raw.enumerated().map { index, weight in
            if index < count / 2 || index == 0 { return weight / positive }
            return negative < 0 ? -limit * weight / negative : 0
        }
    }
}
