import CairnBase
public import CairnCheckpoint
import CairnTensor

/// Which units of a network may be scaled: what comes in multiplied by a positive number and what goes out divided by it.
///
/// That keeps the function where the units' activation is ReLU or linear, and no normalization lies between.
public struct ScalingSpec: Sendable, Hashable {
    /// An axis of a tensor along which the units of a label lie.
    public struct ScaledAxis: Sendable, Hashable {
        public var tensor: String
        public var axis: Int

        public init(tensor: String, axis: Int) {
            self.tensor = tensor
            self.axis = axis
        }
    }

    /// The weights and biases of the units, by label.
    public var incoming: [String: [ScaledAxis]]
    /// The weights that the units' outputs are multiplied by, by label.
    public var outgoing: [String: [ScaledAxis]]

    public init(incoming: [String: [ScaledAxis]], outgoing: [String: [ScaledAxis]]) {
        self.incoming = incoming
        self.outgoing = outgoing
    }

    /// The units of a specification of permutations whose weights are stored as `[outputs, inputs]`.
    ///
    /// - Parameter labels: Those whose units may be scaled; axes where units are more than one element are left out.
    public init(_ spec: PermutationSpec, labels: [String]) {
        var (incoming, outgoing): ([String: [ScaledAxis]], [String: [ScaledAxis]]) = ([:], [:])
        for (tensor, axes) in spec.axes.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            for (index, axis) in axes.enumerated() {
                guard let axis, labels.contains(axis.label), axis.width == 1, axis.repeats == 1 else { continue }
                let scaled = ScaledAxis(tensor: tensor, axis: index)
                if index == 0 { incoming[axis.label, default: []].append(scaled) }
                else { outgoing[axis.label, default: []].append(scaled) }
            }
        }
        self.init(incoming: incoming, outgoing: outgoing)
    }

    /// The factors for which the squares of all weights together are least: with them, what comes into a unit is as large as
    /// what goes out, and two networks that differ by scales alone become one.
    ///
    /// Units without anything that comes in, or goes out, keep their scale. Holds the tensors of the specification in double
    /// precision.
    ///
    /// - Returns: For ``ScaledReader``, by label.
    /// - Throws: As ``CheckpointReader/read(_:region:into:)``.
    public func balance(_ reader: any CheckpointReader) throws -> [String: [Double]] {
        var matrices: [String: ScaledMatrix] = [:]
        let scaledAxes = Array(incoming.values.joined()) + Array(outgoing.values.joined())
        for scaled in scaledAxes where matrices[scaled.tensor] == nil {
            matrices[scaled.tensor] = try ScaledMatrix(scaled.tensor, reader)
        }
        let labels = Set(incoming.keys).intersection(outgoing.keys).sorted()
        var scales: [String: [Double]] = [:]
        for label in labels {
            let counts = (incoming[label, default: []] + outgoing[label, default: []]).map { scaled in
                matrices[scaled.tensor]?.extent(scaled.axis) ?? 0
            }
            guard let count = counts.first, counts.allSatisfy({ $0 == count }) else {
                throw CairnError(
                    .mismatch, "the tensors do not agree how many units \"\(label)\" has",
                    .init(file: reader.source, found: "\(counts)"))
            }
            scales[label] = [Double](repeating: 1, count: count)
        }
        // Each step is the best for its label alone, and the whole is convex in the logarithms.
        for _ in 0..<10_000 {
            var greatest = 0.0
            for label in labels {
                var factors = scales[label, default: []].map { _ in 1.0 }
                let into = squares(incoming[label, default: []], matrices, factors.count)
                let out = squares(outgoing[label, default: []], matrices, factors.count)
                for unit in factors.indices where into[unit] > 0 && out[unit] > 0 {
                    factors[unit] = (out[unit] / into[unit]).squareRoot().squareRoot()
                    greatest = max(greatest, abs(factors[unit] - 1))
                    scales[label]?[unit] *= factors[unit]
                }
                for scaled in incoming[label, default: []] { matrices[scaled.tensor]?.scale(scaled.axis, factors) }
                for scaled in outgoing[label, default: []] {
                    matrices[scaled.tensor]?.scale(scaled.axis, factors.map { 1 / $0 })
                }
            }
            if greatest < 1e-12 { break }
        }
        return scales
    }

    private func squares(_ scaledAxes: [ScaledAxis], _ matrices: [String: ScaledMatrix], _ count: Int) -> [Double] {
        var sums = [Double](repeating: 0, count: count)
        for scaled in scaledAxes { matrices[scaled.tensor]?.addSquares(scaled.axis, to: &sums) }
        return sums
    }
}

/// A tensor in memory that is scaled along its axes.
private struct ScaledMatrix {
    private var elements: [Double]
    private let shape: [Int]
    private let strides: [Int]

    init(_ name: String, _ reader: any CheckpointReader) throws {
        let tensor = try reader.tensor(name)
        shape = tensor.shape.extents
        strides = tensor.shape.strides
        elements = try tensor.converted(to: .f64).elements(as: Double.self)
    }

    func extent(_ axis: Int) -> Int { shape.indices.contains(axis) ? shape[axis] : 0 }

    private func unit(_ index: Int, _ axis: Int) -> Int { index / strides[axis] % shape[axis] }

    func addSquares(_ axis: Int, to sums: inout [Double]) {
        for (index, value) in elements.enumerated() { sums[unit(index, axis)] += value * value }
    }

    mutating func scale(_ axis: Int, _ factors: [Double]) {
        for index in elements.indices { elements[index] *= factors[unit(index, axis)] }
    }
}
