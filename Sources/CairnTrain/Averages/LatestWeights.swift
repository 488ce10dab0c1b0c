public import CairnBase
public import CairnTensor

/// The weights at the latest of equally spaced steps, and their mean: LAWA (Kaddour 2022).
///
/// Keeping them costs no copy: tensors that are still held here are updated elsewhere.
public struct LatestWeights: Sendable {
    /// How many are kept.
    public let count: Int
    /// How many steps lie between them.
    public let spacing: Int
    private var kept: [(step: Int, weights: [(name: String, tensor: Tensor)])] = []

    /// - Throws: ``CairnError/Code/invalidArgument`` unless both are at least one.
    public init(count: Int, spacing: Int) throws(CairnError) {
        guard count > 0, spacing > 0 else {
            throw CairnError(
                .invalidArgument, "an average needs weights, and steps between them",
                .init(found: "\(count) weights, every \(spacing) steps"))
        }
        self.count = count
        self.spacing = spacing
    }

    /// The steps whose weights are kept, the oldest first.
    public var steps: [Int] { kept.map(\.step) }

    /// Keeps the weights after a step if it is one of those.
    public mutating func note(_ step: Int, _ weights: @autoclosure () -> [(name: String, tensor: Tensor)]) {
        guard step % spacing == 0, kept.last?.step != step else { return }
        kept.append((step, weights()))
        if kept.count > count { kept.removeFirst() }
    }

    /// The mean, summed in 64 bits, in the weights' type; `nil` until as many are kept as are wanted.
    public func mean() throws -> [String: Tensor]? {
        guard kept.count == count, let first = kept.first else { return nil }
        var means: [String: Tensor] = [:]
        for (index, (name, model)) in first.weights.enumerated() {
            var sums = [Double](repeating: 0, count: model.shape.elementCount)
            for (_, weights) in kept {
                let values = try weights[index].tensor.converted(to: .f32).elements(as: Float.self)
                for place in sums.indices { sums[place] += Double(values[place]) }
            }
            let scale = 1 / Double(count)
            means[name] = try Tensor(sums.map { Float($0 * scale) }, model.shape).converted(to: model.scalarType)
        }
        return means
    }
}
