import Cairn

/// Saves and loads of one state by each way to the disk, beside plain files that are written as hard as can be.
struct PathBench {
    let folder: String
    let rounds: Int

    private static let ways: [(name: String, writing: LocalWriting)] = [
        ("buffered", .buffered), ("direct", .direct), ("automatic", .automatic),
    ]

    func run(_ state: TrainingState) throws {
        let table = Table()
        let plain = [
            ("plain write, early writeback + fsync", HardPlainFile(folder: folder, manner: .earlyWriteback)),
            ("plain write, direct + fsync", HardPlainFile(folder: folder, manner: .direct)),
        ].filter { $0.1.isPossible }
        let stores = Self.ways.map { way in
            let root = folder + "/" + way.name
            return (
                name: "cairn save, " + way.name,
                store: CheckpointStore(storage: LocalStorage(root: root, writing: way.writing), name: root))
        }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            for (name, file) in plain { try table.time(name) { try file.write(state) } }
            for (name, store) in stores {
                var options = SaveOptions()
                options.replacing = true
                try table.time(name) { try store.save(state, step: 1, options: options) }
            }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: stores.flatMap { store in plain.map { (store.name, $0.0) } })
    }
}
