import CairnBase
import CairnCheckpoint
import CairnDelta

/// What `cairn inspect` says of a delta: of which base it is, and how much it changes.
struct InspectedDelta {
    private let path: String
    private let delta: CheckpointDelta
    private let changedCount: Int

    /// - Throws: What opening it and reading its changes throw.
    init(path: String) throws {
        self.path = path
        delta = try CheckpointDelta(path: path)
        changedCount = try delta.changedNumberCount()
    }

    func print(asJSON: Bool) throws {
        let summary = delta.summary
        let (base, result) = (delta.contents.base, delta.contents.result)
        guard !asJSON else {
            return try ResultDocument.print(
                schema: "cairn-inspect-delta/1",
                [
                    "path": .string(path), "format": "cairn-delta", "base": Self.document(base), "result": Self.document(result),
                    "changed_elements": .count(changedCount), "changed_tensors": .count(summary.changedTensorCount),
                    "new_tensors": .count(summary.newTensorCount), "removed_tensors": .count(summary.removedTensorCount),
                    "equal_tensors": .count(summary.equalTensorCount), "set_values": .count(summary.setValueCount),
                    "removed_values": .count(summary.removedValueCount), "result_bytes": .count(summary.resultByteCount),
                    "stored_bytes": .count(summary.storedByteCount),
                ])
        }
        let lines = [
            "\(path): a delta of \(Self.text(base)), which makes \(Self.text(result)) of it",
            "elements changed: \(changedCount) in \(NumberText.count(summary.changedTensorCount, "tensor"))",
            "tensors: \(summary.newTensorCount) new, \(summary.removedTensorCount) removed, \(summary.equalTensorCount) equal",
            "values: \(summary.setValueCount) set, \(summary.removedValueCount) removed",
            "changes: \(ByteCountText.describe(summary.storedByteCount)) for \(ByteCountText.describe(summary.resultByteCount))",
            "`cairn apply BASE \(path) -o OUT` makes the checkpoint",
        ]
        for line in lines { try StandardOutput.line(PrintableText.escape(line)) }
    }

    private static func text(_ origin: DeltaContents.Origin) -> String {
        (origin.source ?? "a checkpoint") + (origin.step.map { " (step \($0))" } ?? "")
    }

    private static func document(_ origin: DeltaContents.Origin) -> JSONValue {
        .object([
            "source": .optional(origin.source), "step": origin.step.map { .count($0) } ?? .null,
            "save_id": .optional(origin.saveID),
        ])
    }
}
