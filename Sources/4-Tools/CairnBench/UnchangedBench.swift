import Cairn
import CairnCheckpoint

/// Saves of a state of which one per cent has changed, beside saves of all of it: `cairn-bench --unchanged`.
struct UnchangedBench {
    let folder: String
    let rounds: Int

    private static let full = "cairn save, all"
    private static let known = "cairn save, one per cent changed"
    private static let compared = "the same, by a process that has to compare"

    func run(_ state: TrainingState) throws {
        let table = Table()
        let whole = CheckpointStore(path: folder + "/whole")
        let store = CheckpointStore(path: folder + "/store")
        var options = SaveOptions()
        options.reusesUnchanged = true
        var state = state
        var step = 0
        let first = try store.save(state, step: step, options: options)
        let names = ["master.h.0.attn.c_attn.weight", "exp_avg.h.0.mlp.c_fc.weight"]
        var written = 0
        func change() throws {
            step += 1
            for name in names {
                var tensor = try state.tensor(name)
                tensor.overwrite { bytes in
                    for offset in stride(from: 0, to: bytes.byteCount - 8, by: 4096) {
                        bytes.storeBytes(of: step, toByteOffset: offset, as: Int.self)
                    }
                }
                state.set(tensor, for: name)
            }
        }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try table.time(Self.full) {
                var options = SaveOptions()
                options.replacing = true
                try whole.save(state, step: 1, options: options)
            }
            try change()
            try table.time(Self.known) { written = try store.save(state, step: step, options: options).byteCount }
            try change()
            try table.time(Self.compared) {
                try CheckpointStore(path: folder + "/store").save(state, step: step, options: options)
            }
            // What a restart of the process costs once.
            try store.save(state, step: step + 1, options: options)
            step += 1
            _ = try store.prune(RetentionPolicy(keepLast: 2))
        }
        table.print(
            byteCount: state.byteCount, ratios: [(Self.known, Self.full), (Self.compared, Self.full)])
        print("\nBytes: \(written) of \(first.byteCount), \(100 * Double(written) / Double(first.byteCount)) %.")
    }
}
