import CairnBase
public import CairnTensor

/// Finds the order of units in which their activations on the same inputs are most alike: one assignment for each label.
/// (Li et al., "Convergent Learning", 2015; Ainsworth et al., 2023)
public enum ActivationMatching {
    /// What two units are compared by.
    public enum Measure: Sendable, Hashable {
        /// The sum of products.
        case product
        /// The correlation; units that never change have none with any.
        case correlation
    }

    /// Matches units of a second network to those of a first.
    ///
    /// - Parameters:
    ///   - first: For each label the activations of its units, `[samples, units]`, of any floating-point type.
    ///   - second: The same of the other network, on the same samples.
    /// - Returns: For ``PermutedReader`` over the second network.
    /// - Throws: ``CairnError/Code/mismatch`` for activations that do not fit together.
    public static func match(
        _ second: [String: Tensor], to first: [String: Tensor], by measure: Measure = .correlation
    ) throws -> UnitPermutations {
        guard Set(first.keys) == Set(second.keys) else {
            throw CairnError(.mismatch, "the activations of both networks have different labels")
        }
        var orders: [String: [Int]] = [:]
        for (label, one) in first {
            guard let other = second[label], one.shape.dimensionCount == 2, one.shape == other.shape else {
                throw CairnError(
                    .mismatch, "activations are matrices of the same shape", .init(tensor: label, found: "\(one.shape)"))
            }
            let gains = try similarities(one, other, measure)
            do throws(CairnError) {
                orders[label] = try LinearAssignment.maximizing(gains, count: one.shape[1])
            } catch {
                throw error.adding(.init(tensor: label))
            }
        }
        return UnitPermutations(orders)
    }

    /// For each unit of the first how alike each of the second is.
    static func similarities(_ first: Tensor, _ second: Tensor, _ measure: Measure) throws -> [Double] {
        let one = try columns(first, measure), other = try columns(second, measure)
        let (samples, units) = (first.shape[0], first.shape[1])
        var gains = try LinearAssignment.gains(count: units)
        try UnitProducts.add(one, other, count: units, length: samples, to: &gains)
        return gains
    }

    /// The activations unit by unit, for correlations without their mean and of length 1.
    private static func columns(_ tensor: Tensor, _ measure: Measure) throws -> [Float] {
        let values = try tensor.converted(to: .f32).elements(as: Float.self)
        let (samples, units) = (tensor.shape[0], tensor.shape[1])
        var result = [Float](repeating: 0, count: values.count)
        for unit in 0..<units {
            var mean = 0.0, length = 1.0
            if measure == .correlation {
                for sample in 0..<samples { mean += Double(values[sample * units + unit]) }
                mean /= Double(max(1, samples))
                var square = 0.0
                for sample in 0..<samples {
                    let distance = Double(values[sample * units + unit]) - mean
                    square += distance * distance
                }
                length = square > 0 ? square.squareRoot() : .infinity
            }
            for sample in 0..<samples {
                result[unit * samples + sample] = Float((Double(values[sample * units + unit]) - mean) / length)
            }
        }
        return result
    }
}
