import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnTensor

/// `cairn diff`
struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Compare two checkpoints of any formats.",
        discussion: """
            Says which tensors and values only one side has, which differ in type or shape, and for the others by how \
            much the elements differ. Exit code 0 when the two are equal, 1 when they are not.

            Without --tolerance elements must be equal bit for bit; with it they may be that far apart, and NaN equals \
            NaN. Tensors of different types are compared by value.

            Examples:
              cairn diff runs/kjv@400 runs/kjv@800
              cairn diff model.safetensors converted/ --tolerance 1e-3 --ignore-dtype
            """)

    @Argument(help: "A run, a checkpoint, or a file or directory of another format.")
    var first: String

    @Argument(help: "What to compare it with.")
    var second: String

    @Option(help: ArgumentHelp("The distance up to which two elements count as equal.", valueName: "distance"))
    var tolerance: Double?

    @Flag(help: "Let the types of tensors differ, so that only values count.")
    var ignoreDtype = false

    @OptionGroup var selection: SelectionOptions
    @OptionGroup var options: ReadingOptions

    func validate() throws {
        if let tolerance, !(tolerance >= 0) { throw ValidationError("--tolerance must be a number from 0 on (got \(tolerance))") }
    }

    func run() throws {
        let left = try OpenedCheckpoint(first, format: options.format, part: options.part)
        let right = try OpenedCheckpoint(second, format: options.format, part: options.part)
        for (text, opened) in [(first, left), (second, right)] {
            try opened.quantised(besides: text).refuse(
                "a comparison of numbers", of: opened.reader.source, where: selection.test())
        }
        let bar = ProgressBar("comparing", total: left.reader.tensors.totalByteCount)
        var comparison = CheckpointComparison(tolerance: tolerance, ignoresType: ignoreDtype)
        try comparison.compare(left.reader, right.reader, where: selection.test(), progress: bar.add)
        bar.finish()
        if options.json {
            try printDocument(comparison)
        } else {
            try printText(comparison)
        }
        if !comparison.isEqual { throw Exit.answerIsNo }
    }

    private func printText(_ comparison: CheckpointComparison) throws {
        func list(_ names: [String], _ title: String) throws {
            for name in names { try StandardOutput.line("\(title): \(PrintableText.escape(name))") }
        }
        try list(comparison.tensorsOnlyInFirst, "tensor only in \(PrintableText.escape(first))")
        try list(comparison.tensorsOnlyInSecond, "tensor only in \(PrintableText.escape(second))")
        if !comparison.differingTensors.isEmpty {
            var table = Table([
                .init(title: "TENSOR", isFlexible: true), .init(title: "WHAT", isFlexible: true),
                .init(title: "DIFFERING", alignment: .right), .init(title: "MAX ABS", alignment: .right),
                .init(title: "MAX REL", alignment: .right), .init(title: "FIRST AT"),
            ])
            for tensor in comparison.differingTensors { table.append(cells(tensor)) }
            for line in table.lines() { try StandardOutput.line(line) }
        }
        try list(comparison.valuesOnlyInFirst, "value only in \(PrintableText.escape(first))")
        try list(comparison.valuesOnlyInSecond, "value only in \(PrintableText.escape(second))")
        for value in comparison.differingValues {
            let text = "value \(value.name): \(ValueText.describe(value.first)) and \(ValueText.describe(value.second))"
            try StandardOutput.line(PrintableText.escape(text))
        }
        let (tensors, values) = (comparison.equalTensorCount, comparison.equalValueCount)
        let equal = NumberText.count(tensors, "tensor") + " and " + NumberText.count(values, "value") + " are equal"
        try StandardOutput.line(
            comparison.isEqual ? Emphasis.good.apply("equal: ") + equal : Emphasis.bad.apply("different: ") + equal)
    }

    private func cells(_ tensor: CheckpointComparison.DifferingTensor) -> [Table.Cell] {
        var what: [String] = []
        if tensor.first.shape != tensor.second.shape { what.append("\(tensor.first.shape) and \(tensor.second.shape)") }
        if tensor.first.scalarType != tensor.second.scalarType {
            what.append("\(tensor.first.scalarType) and \(tensor.second.scalarType)")
        }
        if tensor.elements?.differingCount ?? 0 > 0 { what.append("elements") }
        var cells: [Table.Cell] = [.init(tensor.first.name), .init(what.joined(separator: ", "))]
        guard let elements = tensor.elements else { return cells + ["-", "-", "-", "-"] }
        cells.append(.init("\(elements.differingCount) of \(elements.count)"))
        cells.append(.init(elements.greatestAbsolute.map(NumberText.short) ?? "-"))
        cells.append(.init(elements.greatestRelative.map(NumberText.short) ?? "-"))
        cells.append(.init(elements.firstIndex.map { "\(tensor.first.shape.indices(ofElement: $0))" } ?? "-"))
        return cells
    }

    private func printDocument(_ comparison: CheckpointComparison) throws {
        let tensors = comparison.differingTensors.map { tensor -> JSONValue in
            var object: JSONObject = [
                "fqn": .string(tensor.first.name),
                "dtype": .strings([tensor.first.scalarType.rawValue, tensor.second.scalarType.rawValue]),
                "shape": .array([.shape(tensor.first.shape), .shape(tensor.second.shape)]),
            ]
            guard let elements = tensor.elements else { return .object(object) }
            func number(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }
            object["elements"] = .count(elements.count)
            object["differing"] = .count(elements.differingCount)
            object["max_abs"] = number(elements.greatestAbsolute)
            object["max_rel"] = number(elements.greatestRelative)
            object["non_finite"] = .count(elements.nonFiniteCount)
            object["first_index"] =
                elements.firstIndex.map { index in
                    .array(tensor.first.shape.indices(ofElement: index).map { .count($0) })
                } ?? .null
            return .object(object)
        }
        var values: [JSONValue] = []
        for value in comparison.differingValues {
            values.append([
                "name": .string(value.name), "first": try ValueCoding.json(value.first),
                "second": try ValueCoding.json(value.second),
            ])
        }
        try ResultDocument.print(
            schema: "cairn-diff/1",
            [
                "equal": .bool(comparison.isEqual), "first": .string(first), "second": .string(second),
                "tolerance": tolerance.map { .number($0) } ?? .null,
                "tensors_only_in_first": .strings(comparison.tensorsOnlyInFirst),
                "tensors_only_in_second": .strings(comparison.tensorsOnlyInSecond),
                "differing_tensors": .array(tensors), "equal_tensors": .count(comparison.equalTensorCount),
                "values_only_in_first": .strings(comparison.valuesOnlyInFirst),
                "values_only_in_second": .strings(comparison.valuesOnlyInSecond),
                "differing_values": .array(values), "equal_values": .count(comparison.equalValueCount),
            ])
    }
}
