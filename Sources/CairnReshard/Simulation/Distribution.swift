import CairnBase

/// The least, the mean and the most of some counts.
package struct Distribution: Sendable {
    package let minimum: Int
    package let mean: Double
    package let maximum: Int
    package let total: Int

    init(_ counts: [Int]) {
        minimum = counts.min() ?? 0
        maximum = counts.max() ?? 0
        total = counts.reduce(0) { $0.adding(clamped: $1) }
        mean = counts.isEmpty ? 0 : Double(total) / Double(counts.count)
    }

    /// The most over the mean: 1 when all are equal.
    package var imbalance: Double { mean == 0 ? 1 : Double(maximum) / mean }
}
