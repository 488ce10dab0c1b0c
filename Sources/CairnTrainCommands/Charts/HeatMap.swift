/// Numbers over a plane, as colours: a part of a chart.
struct HeatMap {
    /// A place of the plane with a name.
    struct Mark {
        var x: Double
        var y: Double
        var name: String
    }

    /// What the numbers are.
    var label: String
    /// Row by row from the smallest y, each from the smallest x; all rows are as long.
    var values: [[Double]]
    /// Where the first and the last column lie.
    var x: ClosedRange<Double>
    /// Where the first and the last row lie, in the unit of `x`.
    var y: ClosedRange<Double>
    var marks: [Mark] = []
    /// What is greater, or no number, has the colour of this.
    var ceiling: Double

    /// A place among the values: counted in columns and rows.
    typealias Place = (x: Double, y: Double)

    /// The least of the values, and the ceiling or the greatest.
    var range: ClosedRange<Double> {
        let finite = values.joined().filter(\.isFinite)
        let low = min(finite.min() ?? 0, ceiling)
        return low...max(low, min(ceiling, finite.max() ?? ceiling))
    }

    /// The value of a column and a row, between them in straight lines; at most the ceiling.
    func value(_ place: Place) -> Double {
        let (column, row) = (clamped(place.x, values[0].count), clamped(place.y, values.count))
        let (left, below) = (Int(column), Int(row))
        let (right, above) = (min(left + 1, values[0].count - 1), min(below + 1, values.count - 1))
        let (u, v) = (column - Double(left), row - Double(below))
        return (1 - v) * ((1 - u) * limited(below, left) + u * limited(below, right))
            + v * ((1 - u) * limited(above, left) + u * limited(above, right))
    }

    private func clamped(_ place: Double, _ count: Int) -> Double { max(0, min(Double(count - 1), place)) }

    private func limited(_ row: Int, _ column: Int) -> Double {
        let value = values[row][column]
        return value.isFinite ? min(value, ceiling) : ceiling
    }

    /// The line where the values have this height, in pieces. (Marching squares)
    func contour(_ height: Double) -> [(from: Place, to: Place)] {
        var pieces: [(from: Place, to: Place)] = []
        for row in 0..<max(0, values.count - 1) {
            for column in 0..<max(0, values[0].count - 1) {
                let corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
                var crossings: [Place] = []
                for (index, one) in corners.enumerated() {
                    let other = corners[(index + 1) % 4]
                    let (a, b) = (limited(one.0, one.1), limited(other.0, other.1))
                    guard (a < height) != (b < height) else { continue }
                    let part = (height - a) / (b - a)
                    crossings.append(
                        (
                            Double(one.1) + part * Double(other.1 - one.1),
                            Double(one.0) + part * Double(other.0 - one.0)
                        ))
                }
                // Two, or four where the heights are a saddle.
                for pair in stride(from: 0, to: crossings.count - 1, by: 2) {
                    pieces.append((crossings[pair], crossings[pair + 1]))
                }
            }
        }
        return pieces
    }
}
