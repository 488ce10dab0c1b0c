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

extension VectorChart {
    /// Colours from the least to the greatest number. (Viridis of Smith and van der Walt, every eighth)
    private static let palette: [(red: Double, green: Double, blue: Double)] = [
        (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
        (170, 220, 50), (253, 231, 37),
    ]
    /// Into how many colours the range is divided; each border of every fourth is drawn as a line.
    private static let bands = 32

    /// The maps, two beside each other.
    func draw(_ maps: [HeatMap], top: Double) -> (svg: String, bottom: Double) {
        var svg = ""
        var bottom = top
        let side = (width - frame.left - frame.right) / 2
        for first in stride(from: 0, to: maps.count, by: 2) {
            if first > 0 { bottom += gap }
            let row = maps[first..<min(first + 2, maps.count)]
            for (column, map) in row.enumerated() {
                svg += draw(map, left: frame.left - 40 + Double(column) * (side + 20), top: bottom, width: side)
            }
            bottom += row.map { size($0, side).height + 70 }.max() ?? 0
        }
        return (svg, bottom)
    }

    /// The plane's own proportions, as large as fits.
    private func size(_ map: HeatMap, _ width: Double) -> (width: Double, height: Double) {
        let across = map.x.upperBound - map.x.lowerBound, up = map.y.upperBound - map.y.lowerBound
        let scale = min(width / max(across, 1e-300), width / max(up, 1e-300))
        return (across * scale, up * scale)
    }

    private func draw(_ map: HeatMap, left: Double, top: Double, width: Double) -> String {
        guard let columns = map.values.first?.count, columns > 1, map.values.count > 1 else { return "" }
        let size = size(map, width), start = top + 26
        // Finer than the values, or one would see their squares.
        let across = 100, up = max(2, Int((100 * size.height / size.width).rounded()))
        let range = map.range
        func place(_ x: Double, _ y: Double) -> (x: Double, y: Double) {
            (left + x * size.width, start + (1 - y) * size.height)
        }
        var svg = "<text x=\"\(round(left))\" y=\"\(round(top + 14))\">\(Self.escape(map.label))</text>\n"
        // Runs of one colour, in cells.
        var runs = [String](repeating: "", count: Self.bands)
        for row in 0..<up {
            let y = (Double(up - row) - 0.5) / Double(up) * Double(map.values.count - 1)
            let bands = (0..<across).map { column in
                let x = (Double(column) + 0.5) / Double(across) * Double(columns - 1)
                return band(map.value((x, y)), range)
            }
            var begin = 0
            while begin < across {
                var end = begin + 1
                while end < across, bands[end] == bands[begin] { end += 1 }
                runs[bands[begin]] += "M\(begin) \(row)h\(end - begin)v1h-\(end - begin)z"
                begin = end
            }
        }
        svg += "<g shape-rendering=\"crispEdges\" transform=\"translate(\(round(left)) \(round(start))) "
        svg += "scale(\(size.width / Double(across)) \(size.height / Double(up)))\">\n"
        for (band, run) in runs.enumerated() where !run.isEmpty {
            svg += "<path fill=\"\(colour(band))\" d=\"\(run)\"/>\n"
        }
        svg += "</g>\n"
        for line in stride(from: 4, to: Self.bands, by: 4) {
            let pieces = map.contour(height(line, range)).map { piece in
                let (from, to) = (
                    place(piece.from.x / Double(columns - 1), piece.from.y / Double(map.values.count - 1)),
                    place(piece.to.x / Double(columns - 1), piece.to.y / Double(map.values.count - 1))
                )
                return "M\(round(from.x)) \(round(from.y))L\(round(to.x)) \(round(to.y))"
            }
            guard !pieces.isEmpty else { continue }
            svg += "<path fill=\"none\" stroke=\"white\" stroke-width=\"0.7\" stroke-opacity=\"0.8\" "
            svg += "d=\"\(pieces.joined())\"/>\n"
        }
        let middle = map.marks.map(\.x).reduce(0, +) / Double(max(1, map.marks.count))
        for mark in map.marks {
            let point = place(
                (mark.x - map.x.lowerBound) / max(map.x.upperBound - map.x.lowerBound, 1e-300),
                (mark.y - map.y.lowerBound) / max(map.y.upperBound - map.y.lowerBound, 1e-300))
            svg += "<circle cx=\"\(round(point.x))\" cy=\"\(round(point.y))\" r=\"5\" fill=\"white\" "
            svg += "stroke=\"black\" stroke-width=\"1.5\"/>\n"
            // Names lie outside of what the marks span.
            let isLeft = mark.x < middle
            svg += "<text x=\"\(round(point.x + (isLeft ? -9 : 9)))\" y=\"\(round(point.y + 4))\" "
            svg += "text-anchor=\"\(isLeft ? "end" : "start")\" stroke=\"black\" stroke-width=\"2.5\" "
            svg += "paint-order=\"stroke\" fill=\"white\">\(Self.escape(mark.name))</text>\n"
        }
        return svg
            + scale(
                range, isCut: map.ceiling <= range.upperBound, left: left, top: start + size.height + 8,
                width: size.width)
    }

    /// The colours and what they stand for.
    private func scale(
        _ range: ClosedRange<Double>, isCut: Bool, left: Double, top: Double, width: Double
    ) -> String {
        let part = width / Double(Self.bands)
        var svg = "<g shape-rendering=\"crispEdges\">\n"
        for band in 0..<Self.bands {
            svg += "<rect x=\"\(round(left + Double(band) * part))\" y=\"\(round(top))\" "
            svg += "width=\"\(round(part + 0.1))\" height=\"10\" fill=\"\(colour(band))\"/>\n"
        }
        svg += "</g>\n"
        for (anchor, place, text) in [
            ("start", left, decimal(range.lowerBound)),
            ("middle", left + width / 2, decimal(height(Self.bands / 2, range))),
            ("end", left + width, decimal(range.upperBound) + (isCut ? " and more" : "")),
        ] {
            svg += "<text x=\"\(round(place))\" y=\"\(round(top + 25))\" text-anchor=\"\(anchor)\">\(text)</text>\n"
        }
        return svg
    }

    /// Where a band begins: closer to each other at the bottom, where what matters is.
    private func height(_ band: Int, _ range: ClosedRange<Double>) -> Double {
        let part = Double(band) / Double(Self.bands)
        return range.lowerBound + (range.upperBound - range.lowerBound) * part * part
    }

    private func band(_ value: Double, _ range: ClosedRange<Double>) -> Int {
        let part = (value - range.lowerBound) / max(range.upperBound - range.lowerBound, 1e-300)
        return max(0, min(Self.bands - 1, Int(max(0, min(1, part)).squareRoot() * Double(Self.bands))))
    }

    private func colour(_ band: Int) -> String {
        let place = Double(band) / Double(Self.bands - 1) * Double(Self.palette.count - 1)
        let index = min(Self.palette.count - 2, Int(place)), part = place - Double(index)
        let (one, other) = (Self.palette[index], Self.palette[index + 1])
        let channels = [(one.red, other.red), (one.green, other.green), (one.blue, other.blue)].map {
            Int(($0.0 + part * ($0.1 - $0.0)).rounded())
        }
        return "rgb(" + channels.map(String.init).joined(separator: ",") + ")"
    }
}
