import CairnBase
import CairnCheckpoint
import CairnStorage

/// Opens a run, for the commands that want all of it.
enum StoreOpening {
    /// The newest step of a run that is usable; newer ones that are not are named on standard error.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none at all, ``CairnError/Code/nothingUsable`` when all are of no
    ///   use.
    static func newest(of path: String) throws -> Int {
        let store = CheckpointStore(path: path)
        let (step, skipped) = try store.newestUsable()
        note(skipped, of: path)
        if let step { return step }
        guard skipped.isEmpty else { throw store.noneUsable(skipped) }
        throw CairnError(
            .notFound, "the run has no finished checkpoint",
            .init(file: path, advice: "`cairn ls` shows what is there"))
    }

    /// The steps of a run that are usable, ascending; those that are not are named on standard error.
    static func usableSteps(of store: CheckpointStore, path: String) throws -> [Int] {
        var steps: [Int] = []
        for summary in try store.list() {
            switch summary.state {
            case .committed: steps.append(summary.step)
            case .debris: break
            case .damaged(let error): note([.init(step: summary.step, error: error)], of: path)
            case .quarantined(let quarantine):
                note([.init(step: summary.step, error: quarantine.error(in: store))], of: path)
            }
        }
        return steps
    }

    private static func note(_ skipped: [CheckpointStore.Skipped], of path: String) {
        for one in skipped { StandardError.note("\(path)@\(one.step) is skipped: \(one.error)") }
    }

    /// - Throws: ``CairnError/Code/unsupported`` when the path is something else.
    static func open(_ path: String) throws -> (store: CheckpointStore, path: String) {
        let recognised = try CheckpointFormats.recognise(path, as: .cairn)
        guard recognised.step == nil else {
            throw CairnError(
                .invalidArgument, "this is one checkpoint", .init(file: path, expected: "the directory of a run"))
        }
        let names = try PathInspection.names(in: path)
        guard names.isEmpty || names.contains(where: { StepName.step(ofKey: $0 + "/") != nil }) else {
            throw CairnError(
                .unsupported, "this is not a run",
                .init(
                    file: path, expected: "a directory with step-… directories in it",
                    found: names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", …" : "")))
        }
        return (CheckpointStore(path: path), path)
    }
}
