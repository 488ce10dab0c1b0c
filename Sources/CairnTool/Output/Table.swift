/// Rows of columns that line up and fit the terminal.
struct Table {
    /// On which side the text of a column stands.
    enum Alignment {
        case left, right
    }

    struct Column {
        var title: String
        var alignment = Alignment.left
        /// Whether the column gives way when the terminal is too narrow.
        var isFlexible = false
    }

    struct Cell: ExpressibleByStringLiteral {
        var text: String
        var emphasis: Emphasis?

        init(_ text: String, _ emphasis: Emphasis? = nil) {
            self.text = PrintableText.escape(text)
            self.emphasis = emphasis
        }

        init(stringLiteral value: String) { self.init(value) }
    }

    var columns: [Column]
    private(set) var rows: [[Cell]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// Adds a row, a cell for each column.
    mutating func append(_ cells: [Cell]) { rows.append(cells) }

    /// The lines of the table.
    ///
    /// - Parameter limit: the most columns of the terminal that a line may take; `nil` for no limit.
    func lines(limit: Int? = Terminal.outputColumns) -> [String] {
        let widths = columnWidths(limit: limit)
        let natural = columnWidths(limit: nil)
        if let limit, let first = widths.first, first < min(natural[0], Self.leastLegibleWidth), columns.count > 1 {
            return stackedLines(limit: limit)
        }
        var lines = [line(columns.map { Cell($0.title, .heading) }, widths)]
        lines += rows.map { line($0, widths) }
        return lines
    }

    /// Names cut below this width are hard to tell apart.
    private static let leastLegibleWidth = 20

    /// The first column on a line of its own, and the rest indented below it.
    private func stackedLines(limit: Int) -> [String] {
        var rest = Table(Array(columns.dropFirst()))
        for row in rows { rest.append(Array(row.dropFirst())) }
        let below = rest.lines(limit: max(1, limit - 2)).map { "  " + $0 }
        let names = [Cell(columns[0].title, .heading)] + rows.map { $0[0] }
        return zip(names, below).flatMap { name, line in
            let text = PrintableText.shorten(name.text, to: limit)
            return [name.emphasis?.apply(text) ?? text, line]
        }
    }

    private func columnWidths(limit: Int?) -> [Int] {
        var widths = columns.map { PrintableText.width($0.title) }
        for row in rows {
            for (index, cell) in row.enumerated() { widths[index] = max(widths[index], PrintableText.width(cell.text)) }
        }
        guard let limit else { return widths }
        let separators = 2 * (columns.count - 1)
        var excess = widths.reduce(separators, +) - limit
        // The widest flexible column gives way first, down to what still says something.
        while excess > 0 {
            let candidates = columns.indices.filter { columns[$0].isFlexible && widths[$0] > 8 }
            guard let widest = candidates.max(by: { widths[$0] < widths[$1] }) else { break }
            widths[widest] -= 1
            excess -= 1
        }
        return widths
    }

    private func line(_ cells: [Cell], _ widths: [Int]) -> String {
        var line = ""
        for (index, cell) in cells.enumerated() {
            let text = PrintableText.shorten(cell.text, to: widths[index])
            let padding = String(repeating: " ", count: max(0, widths[index] - PrintableText.width(text)))
            let shown = cell.emphasis?.apply(text) ?? text
            let isLast = index == cells.count - 1
            switch columns[index].alignment {
            case .left: line += isLast ? shown : shown + padding
            case .right: line += padding + shown
            }
            if !isLast { line += "  " }
        }
        return line
    }
}
