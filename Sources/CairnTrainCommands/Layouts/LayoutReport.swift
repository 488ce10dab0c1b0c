/// What the experiment found, for people and for programs.
struct LayoutReport {
    var source: String
    var middle: Int
    var reference: [(step: Int, loss: Double)]
    var results: [LayoutResult]

    /// A line for each layout.
    static func table(_ results: [LayoutResult]) -> String {
        var lines = [
            padded("layout", 28) + padded("ranks", 6, right: true) + padded("files", 7, right: true)
                + padded("bytes", 12, right: true) + padded("largest deviation", 20, right: true)
                + padded("at step", 9, right: true)
        ]
        for result in results {
            let largest = result.deviation.largest
            lines.append(
                padded(result.layout.name, 28) + padded("\(result.rankCount)", 6, right: true)
                    + padded("\(result.fileCount)", 7, right: true) + padded("\(result.byteCount)", 12, right: true)
                    + padded(largest.map { scientific($0.loss) } ?? "none", 20, right: true)
                    + padded(largest.map { $0.loss > 0 ? "\($0.step)" : "" } ?? "", 9, right: true))
        }
        return lines.joined(separator: "\n")
    }

    /// A column for each run, a row for each step.
    var csv: String {
        let columns = results.map { result in
            Dictionary(result.losses.map { ($0.step, $0.loss) }, uniquingKeysWith: { $1 })
        }
        let names = results.map { "\"resumed \($0.layout.name)\"" }
        var text = "step,\"uninterrupted \(source)\"," + names.joined(separator: ",") + "\n"
        for point in reference {
            text += "\(point.step),\(point.loss)"
            for column in columns { text += "," + (column[point.step].map { "\($0)" } ?? "") }
            text += "\n"
        }
        return text
    }

    /// All curves on one another, and below them what is between them.
    func picture(tolerance: Double) -> String {
        let whole = LossCurve(
            name: "uninterrupted, \(source)", points: reference, colour: "#c8c8c8", mark: "·", width: 6)
        let resumed = results.map { result in
            LossCurve(
                name: result.layout.name, points: result.losses, colour: result.layout.colour, mark: "o", width: 1.5)
        }
        let differences = results.map { result in
            LossCurve(
                name: result.layout.name, points: result.deviation.differences, colour: result.layout.colour, mark: "o",
                width: 1.5)
        }
        return VectorChart(title: "Interrupted after step \(middle), resumed under other layouts").draw([
            ChartPanel(label: "training loss (nats)", curves: [whole] + resumed, hasLegend: true),
            ChartPanel(
                label: "difference from uninterrupted", scale: .logarithmic(smallest: 1e-11), curves: differences,
                limit: (tolerance, "tolerance")),
        ])
    }
}
