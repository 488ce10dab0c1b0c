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
