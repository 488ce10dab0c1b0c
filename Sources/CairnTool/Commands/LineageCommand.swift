import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnStorage

/// `cairn lineage`
struct LineageCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lineage", abstract: "Draw which checkpoint was made from which.",
        discussion: """
            PATHS are runs, or directories with runs in them. A run's checkpoints stand in one line as long as nothing \
            branches off; what was resumed, branched, averaged, converted or upcycled from a checkpoint stands below \
            it. A parent that is in none of the runs is named with "(not here)".

            Examples:
              cairn lineage runs
              cairn lineage runs/kjv runs/decayed runs/moe --json
            """)

    @Argument(help: ArgumentHelp("Runs, or directories with runs in them.", valueName: "paths"))
    var paths: [String]

    @Flag(help: "Print one JSON document instead of a drawing (schema cairn-lineage/1).")
    var json = false

    func run() throws {
        var stores: [CheckpointStore] = []
        for path in paths { stores += try Self.runs(at: path) }
        let forest = try LineageForest(stores)
        if json {
            try ResultDocument.print(schema: "cairn-lineage/1", ["checkpoints": forest.document])
            return
        }
        if forest.checkpoints.isEmpty { StandardError.note("there are no checkpoints") }
        for line in forest.lines { try StandardOutput.line(PrintableText.escape(line)) }
    }

    /// The run at a path, or the runs in it.
    private static func runs(at path: String) throws -> [CheckpointStore] {
        guard try PathInspection.kind(of: path) == .directory else {
            throw CairnError(.notFound, "there is no such directory", .init(file: path))
        }
        let names = try PathInspection.names(in: path)
        if names.contains(where: { StepName.step(ofKey: $0 + "/") != nil }) { return [CheckpointStore(path: path)] }
        var stores: [CheckpointStore] = []
        for name in names {
            let inner = PathInspection.join(path, name)
            guard try PathInspection.kind(of: inner) == .directory,
                try PathInspection.names(in: inner).contains(where: { StepName.step(ofKey: $0 + "/") != nil })
            else { continue }
            stores.append(CheckpointStore(path: inner))
        }
        guard !stores.isEmpty else {
            throw CairnError(
                .notFound, "there are no runs here",
                .init(file: path, expected: "a run, or a directory with runs in it"))
        }
        return stores
    }
}
