import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnLayout
import CairnSnapshot

/// `cairn ls`
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "List the checkpoints of a run.",
        discussion: """
            One line for each checkpoint, oldest step first. The state is "committed" for a whole checkpoint, "debris" \
            for one without a manifest (never finished, or the manifest was lost: `cairn repair` brings it back, `cairn prune` removes what is left), "referenced" for files of a deleted checkpoint that later ones need, "damaged" for one whose manifest \
            cannot be read or of which a file is missing or has another length, "quarantined" for one that a restart found damaged and that is not chosen any more; \
            `cairn verify` looks deeper.

            With --timings it shows instead how the snapshot of each checkpoint was taken and saved, where that was \
            recorded: what training paid (retain: the call; wait: for a free slot; updates: for memory; copies: tensors \
            that were updated elsewhere meanwhile), and the background (queue, drain, durable, commit, and the total \
            from the call until the checkpoint was durable).

            Example:
              cairn ls runs/kjv --timings
            """)

    @Argument(help: ArgumentHelp("The directory of a run.", valueName: "store"))
    var store: String

    @Flag(help: "Print one JSON document instead of a table (schema cairn-ls/1).")
    var json = false

    @Flag(help: "Show how the snapshot of each checkpoint was taken and saved.")
    var timings = false

    func run() throws {
        let (store, path) = try StoreOpening.open(store)
        let summaries = try store.list()
        let rebuildable = try rebuildableSteps(summaries, of: store)
        if json {
            let rows = try summaries.map { summary in
                var document = summary.document
                if case .debris = summary.state { document["repairable"] = .bool(rebuildable.contains(summary.step)) }
                if timings { try ListedTimings(of: summary, in: store).add(to: &document) }
                return JSONValue.object(document)
            }
            var document: JSONObject = ["store": .string(path), "checkpoints": .array(rows)]
            let parts = try store.partNames()
            if !parts.isEmpty {
                document["parts"] = .array(
                    try parts.map { ["name": .string($0), "steps": .array(try store.part($0).steps().map { .count($0) })] })
            }
            try ResultDocument.print(schema: "cairn-ls/1", document)
            return
        }
        for part in try store.partNames() {
            let steps = try store.part(part).steps()
            StandardError.note(
                "\(path)/parts/\(part): \(NumberText.count(steps.count, "checkpoint"))"
                    + (steps.last.map { ", the newest of step \($0)" } ?? ""))
        }
        if summaries.isEmpty {
            StandardError.note("\(path) holds no checkpoints")
            return
        }
        if timings {
            var table = ListedTimings.table
            for summary in summaries { try ListedTimings(of: summary, in: store).append(to: &table) }
            for line in table.lines() { try StandardOutput.line(line) }
            return
        }
        var table = Table([
            .init(title: "STEP", alignment: .right), .init(title: "TIME"), .init(title: "SIZE", alignment: .right),
            .init(title: "RANKS", alignment: .right), .init(title: "MESH"), .init(title: "METRICS", isFlexible: true),
            .init(title: "LINEAGE", isFlexible: true), .init(title: "STATE", isFlexible: true),
        ])
        for summary in summaries { table.append(summary.cells(isRebuildable: rebuildable.contains(summary.step))) }
        for line in table.lines() { try StandardOutput.line(line) }
    }

    /// The steps without a manifest that parity can bring back, as far as the lengths of their files tell.
    private func rebuildableSteps(_ summaries: [CheckpointSummary], of store: CheckpointStore) throws -> Set<Int> {
        var steps = Set<Int>()
        for summary in summaries {
            guard case .debris = summary.state, let protection = try? store.protection(ofStep: summary.step) else { continue }
            if try protection.verify(deep: false).isRepairable { steps.insert(summary.step) }
        }
        return steps
    }
}

extension CheckpointSummary {
    fileprivate var document: JSONObject {
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
        case .referenced: object["state"] = "referenced"
        case .damaged(let error):
            object["state"] = "damaged"
            object["error"] = .string(error.description)
        case .quarantined(let quarantine):
            object["state"] = "quarantined"
            object["error"] = .string(quarantine.reason)
            object["quarantined"] = .object([
                "time": .number(quarantine.time), "time_iso": .optional(TimeText.iso(quarantine.time)),
                "save_id": .optional(quarantine.saveID.map { "\($0)" }),
            ])
        }
        if setAsideCount > 0 { object["set_aside"] = .count(setAsideCount) }
        return object
    }

    fileprivate func cells(isRebuildable: Bool) -> [Table.Cell] {
        let aside = setAsideCount > 0 ? ", \(setAsideCount) set aside" : ""
        let state: Table.Cell =
            switch state {
            case .committed: .init("committed" + aside, .good)
            case .debris where isRebuildable:
                .init("no manifest; parity can rebuild it: cairn repair" + aside, .doubtful)
            case .debris: .init("debris" + aside, .doubtful)
            case .referenced: .init("referenced" + aside)
            case .damaged(let error): .init("damaged: \(error.message)" + aside, .bad)
            case .quarantined(let quarantine): .init("quarantined: \(quarantine.reason)" + aside, .bad)
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

/// How the snapshot of one checkpoint was taken and saved, as `cairn ls --timings` shows it.
struct ListedTimings {
    private let step: Int
    /// One for each rank; `nil` where none was recorded.
    private let ranks: [SnapshotTimeline]?
    /// Why a record could not be read.
    private let error: CairnError?

    /// - Throws: What a storage throws that cannot be reached.
    init(of summary: CheckpointSummary, in store: CheckpointStore) throws(CairnError) {
        step = summary.step
        var ranks: [SnapshotTimeline]?
        var flaw: CairnError?
        if let manifest = summary.manifest {
            do throws(CairnError) {
                ranks = try TimelineFile.read(of: manifest, in: store)
            } catch {
                guard error.code == .malformed else { throw error }
                flaw = error
            }
        }
        self.ranks = ranks.flatMap { $0.isEmpty ? nil : $0 }
        error = flaw
    }

    static let table = Table(
        [
            "STEP", "RANK", "RETAIN", "WAIT", "UPDATES", "COPIES", "QUEUE", "DRAIN", "DURABLE", "COMMIT", "TOTAL", "SIZE",
        ].map { .init(title: $0, alignment: .right) })

    func append(to table: inout Table) {
        if let error { StandardError.note(error.description) }
        guard let ranks else {
            table.append([.init(String(step))] + [Table.Cell](repeating: "-", count: table.columns.count - 1))
            return
        }
        for rank in ranks {
            func time(_ seconds: Double) -> Table.Cell { .init(DurationText.describe(seconds)) }
            table.append([
                .init(String(step)), .init(String(rank.rank)), time(rank.retain), time(rank.wait), time(rank.updateWait),
                .init(ByteCountText.describe(rank.copiedByteCount)), time(rank.queue), time(rank.drain),
                time(rank.durable), time(rank.commit), time(rank.total), .init(ByteCountText.describe(rank.byteCount)),
            ])
        }
    }

    func add(to document: inout JSONObject) {
        document["timings"] = ranks.map { .array($0.map(\.json)) } ?? .null
        if let error { document["timings_error"] = .string(error.description) }
    }
}
