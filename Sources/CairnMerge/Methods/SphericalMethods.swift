#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Methods on the sphere, as coefficients of the tensors.
enum SphericalMethods {
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
    /// - Throws: When the weighted directions cancel out.
    static func multiSlerp(
        _ gram: GramMatrix, weights: [Double], normalizes: Bool, epsilon: Double
    ) throws(MergeMethodProblem) -> [Double] {
        let sum = normalizes ? weights.reduce(0, +) : 1
        let weights = weights.map { $0 / sum }
        let count = gram.count
        guard count > 1 else { return [1] }
        let norms = (0..<count).map(gram.norm)
        let lengths = norms.map { $0 + epsilon }
        let straight = (0..<count).map { weights[$0] / lengths[$0] }
        let length = gram.norm(of: straight)
        guard length >= epsilon, length > 0 else {
            if count == 2 { return weights }
            throw MergeMethodProblem("the weighted directions cancel out; other weights may help")
        }
        let mean = straight.map { $0 / length }
        // Σ wᵢ (uᵢ − (uᵢ·m) m)
        var tangent = straight
        for index in 0..<count {
            var unit = [Double](repeating: 0, count: count)
            unit[index] = 1 / lengths[index]
            let share = weights[index] * gram.product(unit, mean)
            for other in 0..<count { tangent[other] -= share * mean[other] }
        }
        let angle = gram.norm(of: tangent) + epsilon
        let (along, across) = (cos(angle), angle > 0 ? sin(angle) / angle : 1)
        let radius = zip(norms, weights).reduce(0) { $0 + $1.0 * $1.1 }
        return (0..<count).map { radius * (mean[$0] * along + tangent[$0] * across) }
    }

    /// The coefficients of the point with the least sum of squared arcs (Karcher 1977), by gradient steps.
    static func karcher(_ gram: GramMatrix, iterationLimit: Int, tolerance: Double) -> [Double] {
        let count = gram.count
        guard count > 1 else { return [1] }
        let norms = (0..<count).map(gram.norm)
        let valid = norms.indices.filter { norms[$0] > tolerance }
        guard let first = valid.first else { return [Double](repeating: 0, count: count) }
        let share = 1 / Double(valid.count)
        var mean = [Double](repeating: 0, count: count)
        for index in valid { mean[index] = share / norms[index] }
        let length = gram.norm(of: mean)
        if length < tolerance {
            mean = [Double](repeating: 0, count: count)
            mean[first] = 1 / norms[first]
        } else {
            mean = mean.map { $0 / length }
        }
        for _ in 0..<iterationLimit {
            var tangent = [Double](repeating: 0, count: count)
            for index in valid {
                var unit = [Double](repeating: 0, count: count)
                unit[index] = 1 / norms[index]
                let cosine = min(1, max(-1, gram.product(mean, unit)))
                let angle = acos(cosine)
                guard angle >= tolerance, sin(angle) != 0 else { continue }
                let factor = share * angle / sin(angle)
                for other in 0..<count { tangent[other] += factor * (unit[other] - cosine * mean[other]) }
            }
            let angle = gram.norm(of: tangent)
            guard angle >= tolerance else { break }
            mean = (0..<count).map { mean[$0] * cos(angle) + tangent[$0] / angle * sin(angle) }
            let length = gram.norm(of: mean)
            if length > tolerance { mean = mean.map { $0 / length } }
        }
        let radius = norms.reduce(0, +) / Double(count)
        return mean.map { radius * $0 }
    }

    /// How far from the base to the mean of the others; the Gram matrix is of the differences from the base.
    static func modelStockRatio(_ gram: GramMatrix) -> Double {
        let count = gram.count
        var sum = 0.0
        for row in 0..<count {
            for column in 0..<row {
                sum += min(1, max(-1, gram[row, column] / max(gram.norm(row) * gram.norm(column), 1e-6)))
            }
        }
        let cosine = sum / Double(count * (count - 1) / 2)
        let denominator = 1 + Double(count - 1) * cosine
        return abs(denominator) < 1e-6 ? 0 : Double(count) * cosine / denominator
    }
}
