import ArgumentParser
import CairnBase
import CairnCheckpoint

/// `cairn prune`
struct PruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Delete the checkpoints of a run that no rule keeps.",
        discussion: """
            A checkpoint stays if any rule given keeps it; at least one rule is needed. The newest one always stays, and so \
            do those that are known to be damaged. No data are read for that: after a crash run `cairn verify --deep` \
            first. What has no manifest goes once it is old enough: it was never finished, or lost its manifest, which \
            `cairn repair` brings back. --dry-run only says what would happen.

            Example:
              cairn prune runs/kjv --keep-last 3 --keep-every 1000 --dry-run
            """)

    @Argument(help: ArgumentHelp("The directory of a run.", valueName: "store"))
    var store: String

    @Option(help: ArgumentHelp("Keep the latest N checkpoints.", valueName: "n"))
    var keepLast: Int?

    @Option(help: ArgumentHelp("Keep every checkpoint whose step is a multiple of M.", valueName: "m"))
    var keepEvery: Int?

    @Option(help: ArgumentHelp("Keep the best K checkpoints by --metric.", valueName: "k"))
    var keepBest: Int?

    @Option(help: "The metric for --keep-best; a checkpoint without it is never among the best.")
    var metric = "loss"

    @Flag(help: "For --keep-best: a larger value of the metric is better.")
    var largerIsBetter = false

    @Option(
        help: ArgumentHelp(
            "Delete unfinished checkpoints only if nothing was written to them for so long: another process may be "
                + "saving.", valueName: "seconds"))
    var debrisAge = 3600.0

    @Flag(name: [.customShort("n"), .long], help: "Say what would be deleted, and delete nothing.")
    var dryRun = false

    @Flag(help: "Print one JSON document instead of text (schema cairn-prune/1).")
    var json = false

    func validate() throws {
        if keepLast == nil, keepEvery == nil, keepBest == nil {
            throw ValidationError("say what to keep: --keep-last, --keep-every or --keep-best")
        }
        for (name, value) in [("last", keepLast), ("every", keepEvery), ("best", keepBest)] {
            if let value, value < 1 { throw ValidationError("--keep-\(name) must be at least 1 (got \(value))") }
        }
    }

    func run() throws {
        let (store, path) = try StoreOpening.open(store)
        if keepBest != nil { try requireMetric(store, path) }
        let policy = RetentionPolicy(
            keepLast: keepLast, keepEvery: keepEvery, keepBest: keepBest, by: metric, largerIsBetter: largerIsBetter)
        let report = try store.prune(policy, debrisAge: debrisAge, dryRun: dryRun)
        if json {
            try printDocument(report, path)
            return
        }
        let verb = dryRun ? "would delete" : "deleted"
        for step in report.deleted { try StandardOutput.line("\(verb) step \(step)") }
        for key in report.debris { try StandardOutput.line("\(verb) unfinished \(PrintableText.escape(key))") }
        let freed = "\(ByteCountText.describe(report.freedByteCount)) \(dryRun ? "would be freed" : "freed")"
        let gone = "\(report.deleted.count) \(dryRun ? "would go" : report.deleted.count == 1 ? "is gone" : "are gone")"
        let kept = NumberText.count(report.kept.count, "checkpoint") + (report.kept.count == 1 ? " stays" : " stay")
        try StandardOutput.line("\(kept), \(gone), \(freed)")
    }

    /// A mistyped metric would make no checkpoint the best and delete the one that was meant.
    private func requireMetric(_ store: CheckpointStore, _ path: String) throws {
        let manifests = try store.list().compactMap(\.manifest)
        guard !manifests.isEmpty, manifests.allSatisfy({ $0.metrics[metric] == nil }) else { return }
        let names = Set(manifests.flatMap(\.metrics.keys)).sorted()
        throw CairnError(
            .notFound, "no checkpoint has the metric \"\(metric)\", so none would be the best",
            .init(
                file: path, expected: names.isEmpty ? "checkpoints that were saved with metrics" : names.joined(separator: ", "),
                advice: "say --metric, or leave out --keep-best"))
    }

    private func printDocument(_ report: PruneReport, _ path: String) throws {
        try ResultDocument.print(
            schema: "cairn-prune/1",
            [
                "store": .string(path), "dry_run": .bool(dryRun), "kept": .array(report.kept.map { .count($0) }),
                "deleted": .array(report.deleted.map { .count($0) }), "debris": .strings(report.debris),
                "freed_bytes": .count(report.freedByteCount),
            ])
    }
}
