import Cairn
import CairnCheckpoint

/// Loads of a checkpoint through views, beside loads of the checkpoint itself: `cairn-bench --views`.
///
/// A view passes bulk reads on with its own names, so that it should cost what the checkpoint costs.
struct ViewBench {
    let folder: String
    let rounds: Int
    let cold: Bool

    private static let plain = "cairn load"
    private static let cast = "the same, cast to BF16"

    func run(_ state: TrainingState) throws {
        let table = Table()
        let store = CheckpointStore(path: folder + "/store")
        var options = SaveOptions()
        options.replacing = true
        try store.save(state, step: 1, options: options)
        let files = try store.open(step: 1).manifest.files.map { folder + "/store/step-00000001/" + $0.name }
        let rules = [try RenameRule("model.*", to: "network.$1")]
        let loads: [(name: String, view: (any CheckpointReader) throws -> any CheckpointReader)] = [
            (Self.plain, { $0 }),
            ("the same, renamed", { try RenamedReader($0, rules: rules) }),
            (Self.cast, { try CastReader($0, to: .bf16) }),
            ("the same, renamed and cast", { try CastReader(RenamedReader($0, rules: rules), to: .bf16) }),
            (
                "the same, renamed, selected and cast",
                { try CastReader(SelectedReader(RenamedReader($0, rules: rules), include: ["*"]), to: .bf16) }
            ),
        ]
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            for (name, view) in loads {
                try PageCache.prepare(files, cold: cold)
                try table.time(name) { _ = try TrainingState(reading: view(store.open(step: 1))) }
            }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: [(loads[1].name, Self.plain), (loads[3].name, Self.cast), (loads[4].name, Self.cast)])
    }
}
