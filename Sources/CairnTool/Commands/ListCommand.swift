import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnLayout

/// `cairn ls`
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the checkpoints of a run.",
        discussion: """
            One line for each checkpoint, oldest step first. The state is "committed" for a whole checkpoint, "debris" \
            for one that was never finished (never read; `cairn prune` removes it), "damaged" for one whose manifest \
            cannot be read; `cairn verify` looks deeper.

            Example:
              cairn ls runs/kjv
            """)

    @Argument(help: ArgumentHelp("The directory of a run.", valueName: "store"))
    var store: String

    @Flag(help: "Print one JSON document instead of a table (schema cairn-ls/1).")
    var json = false

    func run() throws {
        let (store, path) = try StoreOpening.open(store)
        let summaries = try store.list()
        if json {
            try ResultDocument.print(
                schema: "cairn-ls/1",
                ["store": .string(path), "checkpoints": .array(summaries.map { $0.document })])
            return
        }
        if summaries.isEmpty {
            StandardError.note("\(path) holds no checkpoints")
            return
        }
        var table = Table([
            .init(title: "STEP", alignment: .right), .init(title: "TIME"), .init(title: "SIZE", alignment: .right),
            .init(title: "RANKS", alignment: .right), .init(title: "MESH"), .init(title: "METRICS", isFlexible: true),
            .init(title: "LINEAGE", isFlexible: true), .init(title: "STATE", isFlexible: true),
        ])
        for summary in summaries { table.append(summary.cells) }
        for line in table.lines() { try StandardOutput.line(line) }
    }
}

extension CheckpointSummary {
    fileprivate var document: JSONValue {
        var object: JSONObject = [
            "step": .count(step), "time": manifest.map { .number($0.time) } ?? .null,
            "time_iso": .optional(manifest.flatMap { TimeText.iso($0.time) }), "bytes": .count(byteCount),
            "ranks": manifest.map { .count($0.files.count) } ?? .null,
            "meshes": .array((manifest?.meshes ?? []).map { .string($0.description) }),
            "metrics": .metrics(manifest?.metrics ?? [:]),
            "lineage": manifest?.lineage.map { .lineage($0) } ?? .null,
        ]
        switch state {
        case .committed: object["state"] = "committed"
        case .debris: object["state"] = "debris"
        case .damaged(let error):
            object["state"] = "damaged"
            object["error"] = .string(error.description)
        }
        return .object(object)
    }

    fileprivate var cells: [Table.Cell] {
        let state: Table.Cell =
            switch state {
            case .committed: .init("committed", .good)
            case .debris: .init("debris", .doubtful)
            case .damaged(let error): .init("damaged: \(error.message)", .bad)
            }
        return [
            .init(String(step)), .init(manifest.flatMap { TimeText.iso($0.time) } ?? "-"),
            .init(ByteCountText.describe(byteCount)), .init(manifest.map { String($0.files.count) } ?? "-"),
            .init(manifest.flatMap { MeshText.describe($0.meshes) } ?? "-"),
            .init(MetricsText.describe(manifest?.metrics ?? [:])),
            .init(manifest?.lineage.map(LineageText.describe) ?? "-"), state,
        ]
    }
}
