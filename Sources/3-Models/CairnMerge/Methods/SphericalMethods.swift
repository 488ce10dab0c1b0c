#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Methods on the sphere, as coefficients of the tensors.
///
/// `nil` where directions cancel out so far that the products of the Gram matrix do not tell what is left: one with more
/// digits does.
enum SphericalMethods {
    /// Directions whose sum is shorter than this part of theirs: up to here what single precision rounded of differences,
    /// and double precision of their products, is below the result's own rounding.
    private static let cancellingPart = 1.0 / 16
    /// A part of a unit vector below this is rounding, whatever the digits.
    private static let noise = 1e-14
    private static let advice = "take other weights, leave the tensor out, or merge it by linear"

    /// The coefficients of the arc from tensor 0 to tensor 1; of the straight line where the two are nearly parallel.
    static func slerp(_ gram: GramMatrix, t: Double) -> [Double] {
        let norms = (0...1).map { gram.norm($0) > 1e-8 ? gram.norm($0) : 1 }
        let cosine = min(1, max(-1, gram[0, 1] / norms[0] / norms[1]))
        guard abs(cosine) <= 0.9995 else { return [1 - t, t] }
        let angle = acos(cosine)
        return [sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)]
    }

    /// The coefficients of the weighted mean in the tangent space at the straight mean.
    ///
    /// In that space the weighted directions add up to zero, as the straight mean is their sum: what is left of the formula
    /// is the straight mean's direction with the mean length.
    ///
    /// - Throws: When the weighted directions of more than two cancel out.
    static func multiSlerp(
        _ gram: GramMatrix, weights: [Double], normalizes: Bool, epsilon: Double
    ) throws(MergeMethodProblem) -> [Double]? {
        let sum = normalizes ? weights.reduce(0, +) : 1
        let weights = weights.map { $0 / sum }
        let count = gram.count
        guard count > 1 else { return [1] }
        let vectors = SpannedVectors(gram)
        // A vector without length has no direction; its weight counts in the mean length only.
        let straight = (0..<count).map { vectors.norms[$0] > 0 ? weights[$0] / (vectors.norms[$0] + epsilon) : 0 }
        let whole = (0..<count).reduce(0) { $0 + abs(straight[$1]) * vectors.norms[$1] }
        // Next to nothing, in whatever direction.
        guard whole > 0, whole >= epsilon else { return weights }
        let length = SpannedVectors.norm(vectors.sum(straight))
        guard gram.isCompensated || length >= whole * cancellingPart else { return nil }
        guard length >= epsilon, length > whole * noise else {
            if count == 2 { return weights }
            throw MergeMethodProblem("the weighted directions cancel out, and have no mean", advice: advice)
        }
        let radius = zip(vectors.norms, weights).reduce(0) { $0 + $1.0 * $1.1 }
        return straight.map { radius * cos(epsilon) / length * $0 }
    }

    /// The coefficients of the point with the least sum of squared arcs (Karcher 1977), by gradient steps.
    ///
    /// - Throws: When the directions of more than two cancel out.
    static func karcher(
        _ gram: GramMatrix, iterationLimit: Int, tolerance: Double
    ) throws(MergeMethodProblem) -> [Double]? {
        let count = gram.count
        guard count > 1 else { return [1] }
        let vectors = SpannedVectors(gram), norms = vectors.norms
        let valid = norms.indices.filter { norms[$0] > tolerance }
        guard let first = valid.first else { return [Double](repeating: 0, count: count) }
        let share = 1 / Double(valid.count)
        var mean = [Double](repeating: 0, count: count)
        for index in valid { mean[index] = share / norms[index] }
        let length = SpannedVectors.norm(vectors.sum(mean))
        guard gram.isCompensated || length >= cancellingPart && !hasOpposites(gram, valid) else { return nil }
        guard length > noise else {
            // Any point between two opposite directions is as near to both.
            if valid.count == 2 { return norms.map { $0 > tolerance ? 1 / Double(count) : 0 } }
            throw MergeMethodProblem("the directions cancel out, and have no mean", advice: advice)
        }
        if length < tolerance {
            mean = [Double](repeating: 0, count: count)
            mean[first] = 1 / norms[first]
        } else {
            mean = mean.map { $0 / length }
        }
        for _ in 0..<iterationLimit {
            let place = vectors.sum(mean)
            var tangent = [Double](repeating: 0, count: count)
            for index in valid {
                let unit = vectors.unit(index)
                let cosine = SpannedVectors.product(place, unit)
                // Not by the arc's cosine alone, which hardly changes near its ends.
                let sine = SpannedVectors.norm(zip(unit, place).map { $0 - cosine * $1 })
                let angle = atan2(sine, cosine)
                // What is opposite pulls in no direction, or in all.
                guard angle >= tolerance, sine > noise else { continue }
                let factor = share * angle / sine
                tangent[index] += factor / norms[index]
                for other in 0..<count { tangent[other] -= factor * cosine * mean[other] }
            }
            let angle = SpannedVectors.norm(vectors.sum(tangent))
            guard angle >= tolerance else { break }
            mean = (0..<count).map { mean[$0] * cos(angle) + tangent[$0] / angle * sin(angle) }
            let length = SpannedVectors.norm(vectors.sum(mean))
            if length > tolerance { mean = mean.map { $0 / length } }
        }
        let radius = norms.reduce(0, +) / Double(count)
        return mean.map { radius * $0 }
    }

    /// Whether two of the directions, or one of them and the sum of all, are nearly opposite.
    private static func hasOpposites(_ gram: GramMatrix, _ valid: [Int]) -> Bool {
        let limit = -0.99
        var squared = 0.0, sums: [Double] = []
        for row in valid {
            var sum = 0.0
            for column in valid {
                let cosine = gram[row, column] / (gram.norm(row) * gram.norm(column))
                if cosine < limit { return true }
                sum += cosine
            }
            sums.append(sum)
            squared += sum
        }
        return sums.contains { $0 < limit * squared.squareRoot() }
    }

    /// How far from the base to the mean of the others; the Gram matrix is of the differences from the base.
    static func modelStockRatio(_ gram: GramMatrix) -> Double? {
        let count = gram.count
        var sum = 0.0
        for row in 0..<count {
            for column in 0..<row {
                sum += min(1, max(-1, gram[row, column] / max(gram.norm(row) * gram.norm(column), 1e-6)))
            }
        }
        let cosine = sum / Double(count * (count - 1) / 2)
        let denominator = 1 + Double(count - 1) * cosine
        guard gram.isCompensated || abs(denominator) >= 4 * cancellingPart else { return nil }
        return abs(denominator) < 1e-6 ? 0 : Double(count) * cosine / denominator
    }
}
