import ArgumentParser
import CairnBase
import CairnCheckpoint

/// `cairn formats`
struct FormatsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "formats", abstract: "List the formats that are read and written.",
        discussion: """
            The first column is what --format takes; the last is what --to takes. `cairn help convert` says what each of \
            these writes.

            Example:
              cairn formats --json
            """)

    @Flag(help: "Print one JSON document instead of text (schema cairn-formats/1).")
    var json = false

    func run() throws {
        let formats = CheckpointFormats.known.formats
        guard json else {
            var table = Table([.init(title: "format"), .init(title: "what"), .init(title: "path"), .init(title: "written as")])
            for format in formats {
                table.append([
                    .init(format.name), .init(format.title), .init(Self.kinds(format).joined(separator: " or ")),
                    .init(format.targets.map(\.name).joined(separator: ", ")),
                ])
            }
            for line in table.lines() { try StandardOutput.line(line) }
            return
        }
        let documents = formats.map { format -> JSONValue in
            .object([
                "name": .string(format.name), "title": .string(format.title), "path": .strings(Self.kinds(format)),
                "targets": .array(
                    format.targets.map { target in
                        .object(["name": .string(target.name), "summary": .string(target.summary)])
                    }),
            ])
        }
        try ResultDocument.print(schema: "cairn-formats/1", ["formats": .array(documents)])
    }

    private static func kinds(_ format: CheckpointFormat) -> [String] {
        CheckpointFormat.PathKind.allCases.filter(format.kinds.contains).map(\.rawValue)
    }
}
