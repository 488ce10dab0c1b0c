import CCairnKernels
public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// Finds the order of the units of one network in which its weights are most like another's.
///
/// Coordinate descent after Ainsworth, Hayase and Srinivasa ("Git Re-Basin", ICLR 2023): one label after another gets the
/// best order given those of all others, until none gets a better one.
public struct WeightMatching: Sendable {
    /// What was found.
    public struct Result: Sendable {
        /// For ``PermutedReader`` over the second checkpoint.
        public var permutations: UnitPermutations
        /// The sum of the products of matched weights, at first and after every sweep.
        public var similarities: [Double]
        /// Whether the last sweep found nothing better.
        public var isSettled: Bool
    }

    private let spec: PermutationSpec
    /// The most sweeps over all labels.
    package var sweepLimit = 100

    /// - Throws: ``CairnError/Code/unsupported`` for a specification in which one label acts on two axes of one tensor, for
    ///   which the best order is not an assignment.
    public init(_ spec: PermutationSpec) throws(CairnError) {
        for (name, axes) in spec.axes {
            let labels = axes.compactMap { $0?.label }
            guard Set(labels).count == labels.count else {
                throw CairnError(
                    .unsupported, "one permutation acts on two axes of a tensor",
                    .init(tensor: name, advice: "leave that label in its order"))
            }
        }
        self.spec = spec
    }

    private static func list(_ counts: [String: Int]) -> String {
        counts.sorted { ExactString($0.key) < ExactString($1.key) }.map { "\($0.value) \($0.key)" }
            .joined(separator: ", ")
    }

    /// Matches the units of `second` to those of `first`.
    ///
    /// Holds the tensors of the specification, of both, in single precision. Experts whose hidden units are rearranged
    /// as well are compared each with each, in the best order for the pair: that is one assignment for every two.
    ///
    /// - Parameter generator: Draws the order in which labels are visited.
    /// - Throws: ``CairnError/Code/notFound`` for a tensor that is not there, ``CairnError/Code/mismatch`` for axes that do not
    ///   fit their tensors or do not agree; what reading throws; ``CairnError/Code/invalidArgument``, naming the label, for weights
    ///   that are not finite.
    public func match(
        _ second: any CheckpointReader, to first: any CheckpointReader, using generator: inout some RandomNumberGenerator
    ) throws -> Result {
        let counts = try spec.unitCounts(in: first)
        let others = try spec.unitCounts(in: second)
        guard others == counts else {
            throw CairnError(
                .mismatch, "the two checkpoints have different numbers of units",
                .init(
                    file: second.source, expected: "\(Self.list(counts)) as in \(first.source)",
                    found: Self.list(others)))
        }
        let network = try MatchedNetwork(spec, first, second)
        var orders = counts.mapValues { Array(0..<$0) }
        var total = network.similarity(orders)
        var similarities = [total]
        var isSettled = false
        for _ in 0..<max(1, sweepLimit) where !isSettled {
            isSettled = true
            for label in spec.labels.shuffled(using: &generator) {
                let step: MatchedNetwork.Step
                do {
                    step = try network.step(label, count: counts[label] ?? 0, orders)
                } catch let error as CairnError {
                    throw error.adding(.init(file: "\(first.source), \(second.source)", tensor: label))
                }
                // Differences of rounding are not an improvement.
                guard step.after > step.before + 1e-9 * max(1, abs(step.before)) else { continue }
                orders.merge(step.orders) { $1 }
                total += step.after - step.before
                isSettled = false
            }
            similarities.append(total)
        }
        return Result(
            permutations: UnitPermutations(orders), similarities: similarities, isSettled: isSettled)
    }
}

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

/// The scalar products of the units of two networks.
enum UnitProducts {
    /// Adds to `products`, `[count, count]`, the product of each unit of the first with each of the second.
    ///
    /// - Parameter length: The elements of a unit.
    static func add(
        _ first: [Float], _ second: [Float], count: Int, length: Int, to products: inout [Double]
    ) throws {
        // Rows of the first in stripes on several threads.
        let stripe = max(4, min(64, (count + 7) / 8 / 4 * 4))
        try products.withUnsafeMutableBufferPointer { products in
            let memory = SharedMemory(bytes: UnsafeMutableRawBufferPointer(products))
            try ThreadPool.shared.forEach((count + stripe - 1) / stripe) { index in
                let begin = index * stripe, rows = min(stripe, count - begin)
                first.withUnsafeBufferPointer { a in
                    second.withUnsafeBufferPointer { b in
                        guard let a = a.baseAddress, let target = memory.bytes.baseAddress else { return }
                        cairn_merge_products(
                            kernelLevel, a + begin * length, rows, b.baseAddress, count, length,
                            (target + begin * count * 8).assumingMemoryBound(to: Double.self))
                    }
                }
            }
        }
    }
}
