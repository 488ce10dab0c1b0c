import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnTensor

/// What the checkpoints in Fixtures/cairn hold: simple formulas, which Fixtures/cairn/README.md states too.
enum FixtureContent {
    static let lineage = Lineage(
        operation: "training",
        parents: [.init(step: 200, saveID: SaveID("ffeeddccbbaa99887766554433221100"), source: "runs/fixture")])

    static func state() throws -> TrainingState {
        var state = TrainingState()
        let embedding = words(0..<60) { (Float($0 - 30) / 8).bitPattern }
        state.set(try tensor(.f32, [6, 10], embedding), for: "model.embedding.weight")
        state.set(try tensor(.bf16, [10], words(0..<10) { UInt16(0x3F80 + $0) }), for: "model.norm.weight")
        state.set(try tensor(.f32, [3000], words(0..<3000) { (Float($0) / 64).bitPattern }), for: "model.ramp")
        state.set(try tensor(.f64, [4, 3], words(0..<12) { (Double($0) / 3).bitPattern }), for: "optimizer.moment")
        state.set(try tensor(.bool, [7], (0..<7).map { $0 % 3 == 0 ? 1 : 0 }), for: "mask")
        state.set(try tensor(.i64, .scalar, words(0..<1) { _ in UInt64(bitPattern: -5) }), for: "count")
        state.set(try tensor(.f16, [0, 4], []), for: "empty")
        state.set(try tensor(.f4, [4, 6], (0..<12).map { UInt8(($0 * 17 + 3) % 256) }), for: "packed")
        state.set(try tensor(.u8, [5000], (0..<5000).map { UInt8(($0 * $0 + 7 * $0) % 256) }), for: "größe.重み")
        state.tie("model.head.weight", to: "model.embedding.weight")
        for entry in values { state.set(entry.value, for: entry.name) }
        return state
    }

    private static let values: [(name: String, value: Value)] = [
        ("step", .integer(400)), ("smallest", .integer(.min)), ("generator.key", .unsigned(.max)),
        ("learning_rate", .double(0.0003)), ("negative_zero", .double(-0.0)), ("whole_double", .double(3)),
        ("nan", .double(Double(bitPattern: 0x7FF8_0000_0000_1234))), ("infinity", .double(-.infinity)),
        ("text", .string("π \"quoted\"\n\u{1}")), ("bytes", .bytes([0, 1, 254, 255])), ("none", .null),
        ("flag", .bool(true)),
        (
            "nested",
            .dictionary([
                "$odd": .list([.null, .bool(false), .integer(7)]), "plain": .dictionary(["a": .double(0.5)]),
            ])
        ),
    ]

    static func values(ofRank rank: Int) -> [NamedValue] {
        let generator: [String: Value] = ["counter": .unsigned(UInt64(rank) << 62), "rank": .integer(Int64(rank))]
        return [NamedValue(name: "generator", value: .dictionary(generator))]
    }

    /// Five checkpoints of the state: by three ranks, compressed in both ways, by one rank, and by four ranks under layouts.
    static func save(to store: CheckpointStore) throws {
        var options = SaveOptions()
        options.metrics = ["loss": 1.25]
        options.time = 1_750_000_000.5
        options.chunkByteCount = 4096
        options.lineage = lineage
        options.saveID = SaveID("00112233445566778899aabbccddeeff")
        try saveByThreeRanks(to: store, options)
        options.lineage = nil
        options.saveID = SaveID("0123456789abcdef0123456789abcdef")
        try store.save(state(), step: 1200, options: options)
        options.compression = .zstd(level: 9)
        try store.save(state(), step: 800, options: options)
        options.compression = .fast
        options.saveID = SaveID("fedcba98765432100123456789abcdef")
        try store.save(state(), step: 2000, options: options)
        options.compression = .none
        options.saveID = SaveID("89abcdef012345670123456789abcdef")
        try saveUnderLayouts(to: store, options)
    }

    /// How the tensors lie on four ranks: every kind of step that shards.
    static func layout(_ name: String, on mesh: DeviceMesh) throws -> Layout {
        switch name {
        case "model.embedding.weight": try Layout(mesh, ["tp": .shard(1), "dp": .shard(0)])
        case "model.ramp": try Layout(mesh, ["tp": .shard(0, .sizes([1000, 2000])), "dp": .flatten(.perTensor)])
        case "optimizer.moment": try Layout(mesh, ["dp": .flatten(Flattening(start: 2, partition: .equal(8)))])
        case "mask": try Layout(mesh, ["tp": .present(on: [1])])
        case "packed": try Layout(mesh, ["tp": .shard(0)])
        case "größe.重み": try Layout(mesh, ["dp": .shard(0, .chunked, unit: 8)], padding: [0: 5008])
        default: Layout.replicated(on: mesh)
        }
    }

    private static func saveUnderLayouts(to store: CheckpointStore, _ options: SaveOptions) throws {
        let mesh = try DeviceMesh(["dp": 2, "tp": 2])
        _ = try ThreadCommunicator.run(ranks: 4) { communicator in
            var part = try ShardedState(rank: communicator.rank, rankCount: 4, partOf: state()) { name, _ in
                try layout(name, on: mesh)
            }
            part.rankValues = values(ofRank: communicator.rank)
            try ShardedStore(store, over: communicator).save(part, step: 1600, options: options)
        }
    }

    private static func saveByThreeRanks(to store: CheckpointStore, _ options: SaveOptions) throws {
        let state = try state()
        func piece(_ name: String, _ offsets: [Int], _ extents: Shape) throws -> TensorFragment {
            let whole = try state.tensor(name)
            let region = try Region(offsets: offsets, shape: extents)
            return try TensorFragment(
                name: name, globalShape: whole.shape, region: region, tensor: whole.copy(of: region))
        }
        func whole(_ name: String) throws -> TensorFragment {
            try TensorFragment(whole: state.tensor(name), name: name)
        }
        let session = try store.beginSave(step: 400, rankCount: 3, options: options)
        try session.setGlobal(values: state.values, ties: state.ties)
        func write(_ rank: Int, _ fragments: [TensorFragment]) throws {
            try session.write(
                rank: rank, fragments: fragments, values: values(ofRank: rank))
        }
        // Two fragments of one tensor in one file, a tensor cut inside a chunk, and a grid of unequal pieces.
        try write(
            0,
            [
                piece("model.embedding.weight", [0, 0], [1, 10]), piece("model.embedding.weight", [1, 0], [1, 10]),
                piece("größe.重み", [0], [4500]), whole("count"), whole("empty"),
            ])
        try write(
            1,
            [
                piece("model.embedding.weight", [2, 0], [4, 5]), whole("model.ramp"), whole("packed"),
            ])
        try write(
            2,
            [
                piece("model.embedding.weight", [2, 5], [4, 5]), piece("größe.重み", [4500], [500]),
                whole("model.norm.weight"), whole("optimizer.moment"), whole("mask"),
            ])
        try session.commit()
    }

    private static func tensor(_ type: ScalarType, _ shape: Shape, _ bytes: [UInt8]) throws -> Tensor {
        try Tensor(type, shape, copying: bytes.span.bytes)
    }

    /// Little-endian bytes of the words that `make` makes.
    private static func words<Word: FixedWidthInteger>(_ range: Range<Int>, _ make: (Int) -> Word) -> [UInt8] {
        range.flatMap { index in
            let word = make(index)
            return (0..<Word.bitWidth / 8).map { UInt8(truncatingIfNeeded: word >> Word($0 * 8)) }
        }
    }
}
