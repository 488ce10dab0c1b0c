#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Loss curves as an SVG picture: panels one below the other over the same steps, and maps below those.
struct VectorChart {
    var title: String
    /// What the horizontal axis is.
    var axis = "step"
    let width = 860.0
    private let panelHeight = 340.0
    let gap = 40.0
    let frame = (left: 84.0, top: 50.0, right: 20.0, bottom: 50.0)

    init(title: String) { self.title = title }

    func draw(_ curves: [LossCurve]) -> String {
        draw([ChartPanel(label: "training loss (nats)", curves: curves, hasLegend: true)])
    }

    func draw(_ panels: [ChartPanel], maps: [HeatMap] = []) -> String {
        let steps = panels.flatMap(\.curves).flatMap(\.points).map(\.step)
        guard let first = steps.min(), let last = steps.max(), !panels.isEmpty else { return "" }
        let count = Double(panels.count)
        let height = frame.top + count * panelHeight + (count - 1) * gap + frame.bottom
        let bottom = height - frame.bottom
        let drawnMaps = draw(maps, top: height + (maps.isEmpty ? 0 : gap / 2))
        func x(_ step: Int) -> Double {
            frame.left + Double(step - first) / Double(max(1, last - first)) * (width - frame.left - frame.right)
        }
        var svg = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(drawnMaps.bottom))" \
            font-family="sans-serif" font-size="13">
            <rect width="100%" height="100%" fill="white"/>
            \(Self.heading(title, x: frame.left))

            """
        for (index, panel) in panels.enumerated() {
            svg += draw(panel, top: frame.top + Double(index) * (panelHeight + gap), x)
        }
        for tick in 0...5 {
            let step = first + (last - first) * tick / 5
            svg += "<text x=\"\(round(x(step)))\" y=\"\(bottom + 20)\" text-anchor=\"middle\">\(step)</text>\n"
        }
        svg += "<text x=\"\(width / 2)\" y=\"\(height - 10)\" text-anchor=\"middle\">\(Self.escape(axis))</text>\n"
        return svg + drawnMaps.svg + "</svg>\n"
    }

    private func draw(_ panel: ChartPanel, top: Double, _ x: (Int) -> Double) -> String {
        guard let axis = panel.axis() else { return "" }
        let (low, high) = (axis.range.lowerBound, axis.range.upperBound)
        func y(height: Double) -> Double { top + (high - height) / (high - low) * panelHeight }
        func line(_ height: Double, _ style: String) -> String {
            "<line x1=\"\(frame.left)\" x2=\"\(width - frame.right)\" y1=\"\(round(y(height: height)))\" "
                + "y2=\"\(round(y(height: height)))\" \(style)/>"
        }
        var svg = ""
        for tick in axis.ticks {
            svg += line(tick.height, "stroke=\"#ddd\"")
            svg += "<text x=\"\(frame.left - 8)\" y=\"\(round(y(height: tick.height) + 4))\" "
            svg += "text-anchor=\"end\">\(tick.label)</text>\n"
        }
        let middle = top + panelHeight / 2
        svg += "<text x=\"18\" y=\"\(middle)\" transform=\"rotate(-90 18 \(middle))\" text-anchor=\"middle\">"
        svg += "\(Self.escape(panel.label))</text>\n"
        if let limit = panel.limit {
            let height = panel.height(limit.value)
            svg += line(height, "stroke=\"#555\" stroke-dasharray=\"2 3\"")
            svg += "<text x=\"\(frame.left + 8)\" y=\"\(round(y(height: height) - 5))\" fill=\"#555\">"
            svg += "\(Self.escape(limit.label)) \(scientific(limit.value))</text>\n"
        }
        for curve in panel.curves {
            let path = curve.points.filter { $0.loss.isFinite }.map {
                "\(round(x($0.step))),\(round(y(height: panel.height($0.loss))))"
            }
            svg += "<polyline fill=\"none\" stroke=\"\(curve.colour)\" stroke-width=\"\(curve.width)\" "
            svg += curve.isDashed ? "stroke-dasharray=\"6 5\" " : ""
            svg += "points=\"\(path.joined(separator: " "))\"/>\n"
        }
        guard panel.hasLegend else { return svg }
        for (index, curve) in panel.curves.enumerated() {
            let baseline = top + 14 + Double(index) * 20
            svg += "<rect x=\"\(width - 270)\" y=\"\(baseline - 7)\" width=\"18\" height=\"4\" "
            svg += "fill=\"\(curve.colour)\"/>"
            svg += "<text x=\"\(width - 245)\" y=\"\(baseline)\">\(Self.escape(curve.name))</text>\n"
        }
        return svg
    }

    /// The title, smaller where it would not fit.
    static func heading(_ title: String, x: Double) -> String {
        let size = (min(17, 1400 / Double(max(1, title.count))) * 10).rounded() / 10
        return "<text x=\"\(x)\" y=\"28\" font-size=\"\(size)\">\(escape(title))</text>"
    }

    /// A decimal is finer than a pixel.
    func round(_ value: Double) -> Double { (value * 10).rounded() / 10 }

    static func escape(_ text: String) -> String {
        text.split(separator: "&", omittingEmptySubsequences: false).joined(separator: "&amp;")
            .split(separator: "<", omittingEmptySubsequences: false).joined(separator: "&lt;")
    }
}

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

/// A named row of losses for a chart.
struct LossCurve {
    var name: String
    var points: [(step: Int, loss: Double)]
    /// A colour of SVG.
    var colour: String
    /// The character that draws it on a terminal.
    var mark: Character
    /// In pixels.
    var width = 3.0
    var isDashed = false
}

/// Loss curves in characters.
struct TerminalChart {
    var width = 72
    var height = 16

    func draw(_ curves: [LossCurve]) -> String {
        let points = curves.flatMap(\.points).filter { $0.loss.isFinite }
        guard let low = points.map(\.loss).min(), let high = points.map(\.loss).max(),
            let first = points.map(\.step).min(), let last = points.map(\.step).max()
        else { return "" }
        var grid = [[Character]](repeating: [Character](repeating: " ", count: width), count: height)
        // Later curves draw over earlier ones.
        for curve in curves {
            for point in curve.points where point.loss.isFinite {
                let column = Int(Double(point.step - first) / Double(max(1, last - first)) * Double(width - 1))
                let row = Int((high - point.loss) / max(high - low, .leastNonzeroMagnitude) * Double(height - 1))
                grid[row][column] = curve.mark
            }
        }
        var lines: [String] = []
        for (row, cells) in grid.enumerated() {
            let value = high - (high - low) * Double(row) / Double(height - 1)
            let label = row % 5 == 0 || row == height - 1 ? decimal(value) : ""
            lines.append(String(repeating: " ", count: max(0, 8 - label.count)) + label + " │" + String(cells))
        }
        lines.append("         └" + String(repeating: "─", count: width))
        let right = "step \(last)"
        lines.append(
            "          \(first)" + String(repeating: " ", count: max(1, width - right.count - "\(first)".count)) + right)
        for curve in curves { lines.append("          \(curve.mark) \(curve.name)") }
        return lines.joined(separator: "\n")
    }
}
