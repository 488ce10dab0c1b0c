import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnTensor

/// `cairn pack`
struct PackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pack", abstract: "Make a checkpoint self-contained that refers to files of earlier ones.",
        discussion: """
            A run that saves only what has changed (cairn-train run --reuse-unchanged, SaveOptions.reusesUnchanged) has \
            checkpoints that need files of earlier saves; `cairn inspect` says which. This one gets all that it needs into \
            files of its own, in the same run, and refers to nothing afterwards. Tensors, values, metrics and lineage stay as \
            they are. The old one stays whole until the new one is durable; files that nothing needs any more are deleted then.

            `cairn convert` writes a self-contained copy elsewhere instead.

            Example:
              cairn pack runs/kjv@400 --json
            """)

    @Argument(help: ArgumentHelp("A checkpoint of a run; of a run alone the latest.", valueName: "run@step"))
    var path: String

    @Flag(help: "Print one JSON document instead of text (schema cairn-pack/1).")
    var json = false

    func run() throws {
        let (store, name, step) = try StoreOpening.checkpoint(path)
        let before = try store.open(step: step).manifest
        let referred = before.earlier.reduce(0) { $0 + $1.file.byteCount }
        Interruption.watch()
        let bar = ProgressBar("packing", total: before.storedByteCount)
        let packed: Manifest
        do {
            defer { bar.finish() }
            packed = try store.pack(step: step) { count in
                try Interruption.check()
                bar.add(count)
            }
        }
        guard !json else {
            return try ResultDocument.print(
                schema: "cairn-pack/1",
                [
                    "store": .string(name), "step": .count(step), "changed": .bool(packed.saveID != before.saveID),
                    "save_id": .string(packed.saveID.description), "bytes": .count(packed.byteCount),
                    "bytes_before": .count(before.byteCount), "referred_files": .count(before.earlier.count),
                    "referred_bytes": .count(referred),
                ])
        }
        let source = PrintableText.escape("\(name)@\(step)")
        guard packed.saveID != before.saveID else {
            return try StandardOutput.line("\(source): self-contained already")
        }
        try StandardOutput.line(
            "\(source): self-contained, \(ByteCountText.describe(packed.byteCount)) "
                + "(\(ByteCountText.describe(before.byteCount)), and \(NumberText.count(before.earlier.count, "earlier file")) before)"
        )
    }
}

extension Manifest {
    /// The bytes of all its tensors.
    fileprivate var storedByteCount: Int {
        tensors.reduce(0) { $0.adding(clamped: $1.scalarType.byteCount(elementCount: $1.shape.elementCount) ?? 0) }
    }
}
