package import CairnBase
import CairnCheckpoint
import CairnTensor

/// The one JSON document that a command prints with `--json`.
enum ResultDocument {
    /// Prints `{"schema": …}` with the members of `object` behind it.
    ///
    /// - Throws: ``CairnError/Code/inputOutput``.
    static func print(schema: String, _ object: JSONObject) throws(CairnError) {
        try StandardOutput.write(try object.document(schema) + [UInt8(ascii: "\n")])
    }
}

extension JSONValue {
    /// A number, or one of the strings "nan", "inf", "-inf", for which JSON has no notation.
    static func number(_ value: Double) -> JSONValue {
        value.isFinite ? .double(value) : .string(NumberText.short(value))
    }

    /// A count.
    static func count(_ value: Int) -> JSONValue { .integer(Int64(value)) }

    /// The string, or null.
    static func optional(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }

    /// A list of strings.
    static func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }

    /// The extents of a shape.
    static func shape(_ shape: Shape) -> JSONValue { .array(shape.extents.map { .count($0) }) }
}

/// Metrics in one line.
enum MetricsText {
    /// `loss=1.234 accuracy=0.5`, sorted by name; `-` for none.
    static func describe(_ metrics: [String: Double]) -> String {
        if metrics.isEmpty { return "-" }
        return metrics.sorted { ExactString($0.key) < ExactString($1.key) }
            .map { "\($0.key)=\(NumberText.short($0.value))" }.joined(separator: " ")
    }
}

/// Where a checkpoint comes from, in one line.
enum LineageText {
    /// `average of 100 (x0.5), 200 (x0.5)`
    static func describe(_ lineage: Lineage) -> String {
        if lineage.parents.isEmpty { return lineage.operation }
        let parents = lineage.parents.map { parent in
            var text = parent.source ?? ""
            if let step = parent.step { text += (text.isEmpty ? "step " : " step ") + String(step) }
            if text.isEmpty { text = parent.saveID?.description ?? "?" }
            if let coefficient = parent.coefficient { text += " (x\(NumberText.short(coefficient)))" }
            return text
        }
        return lineage.operation + " of " + parents.joined(separator: ", ")
    }
}

extension JSONValue {
    /// `{"loss": 1.25}`, sorted by name.
    static func metrics(_ metrics: [String: Double]) -> JSONValue {
        var object = JSONObject()
        for metric in metrics.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            object[metric.key] = .number(metric.value)
        }
        return .object(object)
    }

    /// `{"operation": …, "parents": [{"step", "save_id", "source", "coefficient"}]}`
    static func lineage(_ lineage: Lineage) -> JSONValue {
        let parents = lineage.parents.map { parent -> JSONValue in
            [
                "step": parent.step.map { .count($0) } ?? .null,
                "save_id": .optional(parent.saveID?.description), "source": .optional(parent.source),
                "coefficient": parent.coefficient.map { .number($0) } ?? .null,
            ]
        }
        var object: JSONObject = ["operation": .string(lineage.operation), "parents": .array(parents)]
        if !lineage.details.isEmpty { object["details"] = (try? ValueCoding.json(.dictionary(lineage.details))) ?? .null }
        return .object(object)
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByDictionaryLiteral {
    package init(stringLiteral value: String) { self = .string(value) }

    package init(dictionaryLiteral members: (String, JSONValue)...) {
        var object = JSONObject()
        for (key, value) in members { object[key] = value }
        self = .object(object)
    }
}

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
