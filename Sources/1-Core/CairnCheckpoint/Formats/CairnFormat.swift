import CairnBase
import CairnStorage

extension CheckpointFormat {
    /// Cairn's own: a run, which is a directory of checkpoints, or one of these.
    public static let cairn = {
        var format = CheckpointFormat(
            name: "cairn", title: "a run of Cairn", kinds: [.directory], recognise: CairnFormat.claim,
            open: { path, options in
                let store = CheckpointStore(path: path)
                if let step = options.step { return Opening(try store.open(step: step)) }
                let (newest, skipped) = try store.newestUsable()
                guard let newest else { throw store.noneUsable(skipped) }
                return Opening(try store.open(step: newest))
            })
        format.checksCoverage = true
        format.targets = [
            CheckpointTarget(
                name: "cairn", summary: "a run's directory; --step says which checkpoint", place: .run,
                settings: [.step, .compression],
                writer: { try CairnWriter(store: CheckpointStore(path: $0), step: $1.step, options: SaveOptions($1)) })
        ]
        return format
    }()
}

extension SaveOptions {
    /// What a conversion says of a checkpoint of a run.
    package init(_ options: CheckpointTarget.Options) {
        self.init(
            metrics: options.metrics, lineage: options.lineage, compression: options.compression,
            replacing: options.replaces)
    }
}

/// How runs and their checkpoints are recognised.
private enum CairnFormat {
    static func claim(_ contents: PathContents) throws(CairnError) -> CheckpointFormat.Claim? {
        contents.kind == .directory ? try directory(contents) : file(contents)
    }

    /// The directory of a run or of a checkpoint. Rank files are safetensors files too.
    private static func directory(_ contents: PathContents) throws(CairnError) -> CheckpointFormat.Claim? {
        let canonical = PathInspection.split(PathInspection.canonical(contents.path))
        if let step = step(of: canonical.name) {
            if try contents.contains(CairnReader.manifestName) { return checkpoint(of: canonical.directory, step) }
            var claim = CheckpointFormat.Claim(contents.path, .kind, instead: ["safetensors", "torch"])
            claim.problem = CairnError(
                .incomplete, "the checkpoint of step \(step) has no manifest: it was never finished, or lost it",
                .init(
                    file: contents.path,
                    advice: "take another checkpoint; `cairn repair` brings back a manifest that was lost"))
            return claim
        }
        return try contents.names().contains { step(of: $0) != nil } ? .init(contents.path) : nil
    }

    /// The manifest of a checkpoint stands for it.
    private static func file(_ contents: PathContents) -> CheckpointFormat.Claim? {
        guard contents.name == CairnReader.manifestName else { return nil }
        let directory = PathInspection.split(PathInspection.split(PathInspection.canonical(contents.path)).directory)
        return step(of: directory.name).map { checkpoint(of: directory.directory, $0) }
    }

    private static func checkpoint(of store: String, _ step: Int) -> CheckpointFormat.Claim {
        var claim = CheckpointFormat.Claim(store, instead: ["safetensors"])
        claim.step = step
        return claim
    }

    /// 400 for `step-00000400`.
    private static func step(of directory: String) -> Int? { StepName.step(ofKey: directory + "/") }
}
