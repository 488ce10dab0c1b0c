import Cairn
import CairnReshard

/// Loads and rewrites a state of four ranks as one of two, beside a plain read of the same bytes.
struct ReshardBench {
    let folder: String
    let rounds: Int
    let cold: Bool

    private static let read = "plain read"

    func run(_ state: TrainingState, peer: PeerProcess?) throws {
        let table = Table()
        let plain = PlainFile(folder: folder)
        try plain.write(state)
        let store = CheckpointStore(path: folder + "/store")
        var replacing = SaveOptions()
        replacing.replacing = true
        try store.save(state, step: 1, options: replacing)
        let four = try tensors(of: state, ranks: 4), two = try tensors(of: state, ranks: 2)
        var options = Resharder.Options()
        options.save = replacing
        try Resharder(reading: store.open(step: 1), tensors: four).write(to: store, step: 4, options: options)
        if let peer { _ = try peer.ask("save") }
        let files = try store.open(step: 4).manifest.files.map { folder + "/store/step-00000004/" + $0.name }
        func prepare(_ paths: [String]) throws { try PageCache.prepare(paths, cold: cold) }
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try prepare([plain.path])
            try table.time(Self.read) { try plain.read(state) }
            try prepare(files)
            try table.time("cairn load 4 ranks as 2") {
                let reader = try store.open(step: 4)
                let parts = try (0..<2).map { try ShardedState(reading: reader, rank: $0, tensors: two) }
                guard parts.allSatisfy({ $0.local("model.wte.weight") != nil }) else {
                    throw CairnError(.incomplete, "the bench's checkpoint")
                }
            }
            if let peer { try table.record("torch DCP load 4 ranks as 2", peer.ask("load")) }
            try prepare([plain.path])
            try table.time("plain read + plain write + fsync") {
                try plain.read(state)
                try plain.write(state)
            }
            try prepare(files)
            try table.time("cairn reshard 4 ranks to 2") {
                try Resharder(reading: store.open(step: 4), tensors: two).write(to: store, step: 2, options: options)
            }
        }
        table.print(byteCount: state.byteCount, ratios: [
            ("cairn load 4 ranks as 2", Self.read), ("torch DCP load 4 ranks as 2", Self.read),
            ("cairn reshard 4 ranks to 2", "plain read + plain write + fsync"),
        ])
    }

    /// Every tensor in chunks of its first dimension, as fully sharded training lays it out.
    private func tensors(of state: TrainingState, ranks: Int) throws -> [PlacedTensor] {
        let mesh = try DeviceMesh(["dp": ranks])
        return try state.tensors.map { name, tensor in
            PlacedTensor(
                name: name, scalarType: tensor.scalarType, shape: tensor.shape,
                layout: try Layout(mesh, ["dp": .shard(0, .chunked)]))
        }
    }
}
