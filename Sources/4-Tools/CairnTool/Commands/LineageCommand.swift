import ArgumentParser
package import CairnBase
package import CairnCheckpoint
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

/// Which checkpoint was made from which, over some runs.
package struct LineageForest {
    /// A committed checkpoint of a run.
    package struct Checkpoint {
        package var store: String
        package var step: Int
        package var saveID: SaveID
        package var operation: String
        package var metrics: [String: Double]
        /// The tensors that were made up after a loss.
        package var approximate: [String] = []
        /// What it says it was made from.
        package var parents: [Lineage.Parent]
        /// Where those are in ``LineageForest/checkpoints``; `nil` for one that is in none of the runs.
        package var found: [Int?] = []
        /// The checkpoint that it is drawn under.
        package var trunk: Int?

        package var name: String { "\(store)@\(step)" }
    }

    /// By run in the order given, then by step.
    package private(set) var checkpoints: [Checkpoint] = []

    /// Reads the manifests of runs. What cannot be read is left out.
    package init(_ stores: [CheckpointStore]) throws(CairnError) {
        for store in stores {
            for summary in try store.list() {
                guard let manifest = summary.manifest else { continue }
                checkpoints.append(
                    Checkpoint(
                        store: store.name, step: summary.step, saveID: manifest.saveID,
                        operation: manifest.lineage?.operation ?? "training", metrics: manifest.metrics,
                        approximate: ApproximateTensors(manifest.lineage).names, parents: manifest.lineage?.parents ?? []))
            }
        }
        resolve()
    }

    private mutating func resolve() {
        let indices = Dictionary(
            checkpoints.enumerated().map { ($1.saveID, $0) }, uniquingKeysWith: { first, _ in first })
        for (index, checkpoint) in checkpoints.enumerated() {
            let found = checkpoint.parents.map { $0.saveID.flatMap { indices[$0] } }
            checkpoints[index].found = found
            // A run's checkpoints name what the run continued from; between them they follow on each other.
            let earlier = index > 0 && checkpoints[index - 1].store == checkpoint.store ? index - 1 : nil
            let continues = earlier.map { previous in
                checkpoint.operation == "training"
                    && (checkpoints[previous].parents == checkpoint.parents || found.first == previous
                        || found.first ?? nil == nil && checkpoint.parents.first?.source == checkpoint.store)
            }
            checkpoints[index].trunk = continues == true ? earlier : found.compactMap(\.self).first
        }
    }

    /// The forest as lines of text, a row of a run's checkpoints in one.
    package var lines: [String] {
        var children: [Int: [Int]] = [:]
        for (index, checkpoint) in checkpoints.enumerated() {
            if let trunk = checkpoint.trunk { children[trunk, default: []].append(index) }
        }
        var lines: [String] = []
        var isDrawn = [Bool](repeating: false, count: checkpoints.count)
        /// Draws what grows from a checkpoint; a stack, so that no run is too long.
        func draw(_ root: Int) {
            var stack = [(first: root, lead: "", branch: "")]
            while let (first, lead, branch) = stack.popLast() {
                guard !isDrawn[first] else { continue }
                isDrawn[first] = true
                var last = first
                var count = 1
                while let next = children[last], next.count == 1, !isDrawn[next[0]], follows(next[0], last) {
                    last = next[0]
                    isDrawn[last] = true
                    count += 1
                }
                lines.append(lead + branch + text(first, last, count))
                let below = lead + (branch.isEmpty ? "" : branch == "└─ " ? "   " : "│  ")
                for (index, child) in (children[last] ?? []).enumerated().reversed() {
                    stack.append((child, below, index == (children[last]?.count ?? 0) - 1 ? "└─ " : "├─ "))
                }
            }
        }
        for index in checkpoints.indices where checkpoints[index].trunk == nil { draw(index) }
        // What is left says that it was made from itself.
        for index in checkpoints.indices where !isDrawn[index] { draw(index) }
        return lines
    }

    /// Whether a checkpoint continues with the row of the other.
    private func follows(_ index: Int, _ other: Int) -> Bool {
        checkpoints[index].operation == "training" && checkpoints[other].operation == "training"
            && checkpoints[index].store == checkpoints[other].store
    }

    private func text(_ first: Int, _ last: Int, _ count: Int) -> String {
        let (from, to) = (checkpoints[first], checkpoints[last])
        var text = count == 1 ? from.name : "\(from.name) … @\(to.step)"
        text += "  " + from.operation + (count == 1 ? "" : ", \(count) checkpoints")
        // Where it is drawn says it all of a run that continues, and of what has one parent.
        let continues = from.operation == "training" && from.trunk.map { checkpoints[$0].store } == from.store
        let isPlain = from.parents.count == 1 && from.trunk != nil && from.parents[0].coefficient == nil
        if !from.parents.isEmpty, !continues, !isPlain {
            text += " of " + zip(from.parents, from.found).map(describe).joined(separator: ", ")
        }
        if !to.metrics.isEmpty { text += "  " + MetricsText.describe(to.metrics) }
        if !to.approximate.isEmpty { text += "  approximate: " + NameList.text(to.approximate) }
        return text
    }

    private func describe(_ parent: Lineage.Parent, _ found: Int?) -> String {
        var text = found.map { checkpoints[$0].name } ?? parent.source ?? "?"
        if found == nil {
            if let step = parent.step { text += "@\(step)" }
            text += " (not here)"
        }
        if let coefficient = parent.coefficient { text += " ×\(NumberText.brief(coefficient))" }
        return text
    }

    /// As `cairn-lineage/1` has it.
    package var document: JSONValue {
        .array(
            checkpoints.map { checkpoint in
                let parents = zip(checkpoint.parents, checkpoint.found).map { parent, found -> JSONValue in
                    [
                        "step": parent.step.map { .count($0) } ?? .null,
                        "save_id": .optional(parent.saveID?.description), "source": .optional(parent.source),
                        "coefficient": parent.coefficient.map { .number($0) } ?? .null,
                        "store": .optional(found.map { checkpoints[$0].store }),
                    ]
                }
                let trunk = checkpoint.trunk.map { index -> JSONValue in
                    ["store": .string(checkpoints[index].store), "step": .count(checkpoints[index].step)]
                }
                var object: JSONObject = [
                    "store": .string(checkpoint.store), "step": .count(checkpoint.step),
                    "save_id": .string(checkpoint.saveID.description), "operation": .string(checkpoint.operation),
                    "metrics": .metrics(checkpoint.metrics), "parents": .array(parents), "follows": trunk ?? .null,
                ]
                if !checkpoint.approximate.isEmpty { object["approximate"] = .strings(checkpoint.approximate) }
                return .object(object)
            })
    }
}
