import Cairn

/// Saves and loads of one state by each way to the disk, beside plain files that are written as hard as can be. A load is
/// of files that are not in the page cache, except where its row says so.
struct PathBench {
    let folder: String
    let rounds: Int

    private static let ways: [(name: String, writing: LocalWriting, reading: LocalReading)] = [
        ("buffered", .buffered, .buffered), ("direct", .direct, .direct), ("automatic", .automatic, .automatic),
    ]

    func run(_ state: TrainingState) throws {
        let table = Table()
        let plain = [
            ("plain write, early writeback + fsync", HardPlainFile(folder: folder, manner: .earlyWriteback)),
            ("plain write, direct + fsync", HardPlainFile(folder: folder, manner: .direct)),
        ].filter { $0.1.isPossible }
        let stores = Self.ways.map { way in
            let root = folder + "/" + way.name
            let storage = LocalStorage(root: root, writing: way.writing, reading: way.reading)
            return (name: way.name, root: root, store: CheckpointStore(storage: storage, name: root))
        }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            for (name, file) in plain { try table.time(name) { try file.write(state) } }
            for (name, _, store) in stores {
                var options = SaveOptions()
                options.replacing = true
                try table.time("cairn save, " + name) { try store.save(state, step: 1, options: options) }
            }
            for (name, root, store) in stores {
                let files = try store.open(step: 1).manifest.files.map { root + "/step-00000001/" + $0.name }
                for file in files { try PageCache.drop(file) }
                try table.time("cairn load, " + name) { _ = try store.load(step: 1) }
                if name == "buffered" { try table.time("cairn load, cached") { _ = try store.load(step: 1) } }
            }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: stores.flatMap { store in plain.map { ("cairn save, " + store.name, $0.0) } }
                + ["direct", "automatic", "cached"].map { ("cairn load, " + $0, "cairn load, buffered") })
    }
}
