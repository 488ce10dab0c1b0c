#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Curves over one scale: a part of a chart.
struct ChartPanel {
    enum Scale {
        case linear
        /// Whole powers of ten; what is less than the smallest, zero too, stands at the bottom.
        case logarithmic(smallest: Double)
    }

    /// What the vertical axis is.
    var label: String
    var scale = Scale.linear
    var curves: [LossCurve]
    var hasLegend = false
    /// A dashed line and what it means.
    var limit: (value: Double, label: String)?

    /// The ends of the vertical axis, and where it is marked, as heights.
    func axis() -> (range: ClosedRange<Double>, ticks: [(height: Double, label: String)])? {
        let values = curves.flatMap(\.points).map(\.loss).filter(\.isFinite) + [limit?.value].compactMap { $0 }
        guard let low = values.min(), let high = values.max() else { return nil }
        switch scale {
        case .linear:
            let span = max(high - low, 1e-12)
            let ticks = (0...5).map { low + span * Double($0) / 5 }.map { ($0, decimal($0)) }
            return (low...low + span, ticks)
        case .logarithmic(let smallest):
            let bottom = log10(smallest).rounded()
            let top = max(bottom + 1, log10(max(high, smallest)).rounded(.up))
            let ticks = stride(from: bottom, through: top, by: 1).map { exponent in
                (exponent, exponent == bottom ? "0" : "1e\(Int(exponent))")
            }
            return (bottom...top, ticks)
        }
    }

    /// How high a value stands on that axis.
    func height(_ value: Double) -> Double {
        switch scale {
        case .linear: value
        case .logarithmic(let smallest): log10(max(value, smallest))
        }
    }
}
