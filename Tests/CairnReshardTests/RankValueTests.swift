import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// Values that single ranks had alone go where the rank's place goes, or are named.
@Suite struct RankValueTests {
    private let store = CheckpointStore(storage: MemoryStorage(), name: "run")

    private static func tensors(_ mesh: KeyValuePairs<String, Int>) throws -> [PlacedTensor] {
        let mesh = try DeviceMesh(mesh)
        let axis = mesh.axes.first { $0.size > 1 }?.name ?? mesh.axes[0].name
        return [PlacedTensor(name: "w", scalarType: .f32, shape: [24, 4], layout: try Layout(mesh, [axis: .shard(0)]))]
    }

    /// Saves step 1 on a mesh; each rank has its number as a value of its own.
    private func save(_ mesh: KeyValuePairs<String, Int>, _ names: [String] = ["generator"]) throws {
        let (tensors, store) = (try Self.tensors(mesh), store)
        let count = tensors[0].layout.mesh.rankCount
        let whole = try Tensor((0..<96).map { Float($0) }, shape: [24, 4])
        try ThreadCommunicator.run(ranks: count) { communicator in
            var state = try ShardedState(rank: communicator.rank, rankCount: count, tensors: tensors)
            if let part = try tensors[0].sharded().part(ofRank: communicator.rank, of: whole) { try state.set(part, for: "w") }
            state.rankValues = names.map { NamedValue(name: $0, value: Value(communicator.rank)) }
            try ShardedStore(store, over: communicator).save(state, step: 1)
        }
    }

    /// What each rank of a mesh gets, `nil` where it gets nothing, and what is named as lost.
    private func load(
        _ mesh: KeyValuePairs<String, Int>, _ view: (CairnReader) throws -> any CheckpointReader = { $0 }
    ) throws -> (values: [Int?], skippedEntries: [String]) {
        let tensors = try Self.tensors(mesh)
        let reader = try view(store.open(step: 1))
        let states = try (0..<tensors[0].layout.mesh.rankCount).map {
            try ShardedState(reading: reader, rank: $0, tensors: tensors)
        }
        return (states.map { $0.rankValues.first?.value.int }, states.flatMap(\.skippedEntries))
    }

    @Test func theSameMeshInAnotherOrderGivesThemByCoordinates() throws {
        try save(["dp": 2, "tp": 3])
        #expect(try load(["dp": 2, "tp": 3]).values == [0, 1, 2, 3, 4, 5])
        // Rank 1 of tp=3,dp=2 stands at tp 0, dp 1: there stood rank 3.
        let turned = try load(["tp": 3, "dp": 2])
        #expect(turned.values == [0, 3, 1, 4, 2, 5] && turned.skippedEntries.isEmpty)
        #expect(try load(["tp": 3, "pp": 1, "dp": 2]).values == turned.values, "an axis of one tells no ranks apart")
        #expect(try load(["tp": 3, "dp": 2]) { try SelectedReader($0, include: ["w", "gen*"]) }.values == turned.values)
        #expect(try load(["tp": 3, "dp": 2]) { try SelectedReader($0, include: ["w"]) }.values.allSatisfy { $0 == nil })
    }

    @Test(
        arguments: [
            ["dp": 3, "tp": 2], ["dp": 6], ["dp": 2], ["dp": 1], ["dp": 8], ["a": 2, "b": 3],
        ] as [KeyValuePairs<String, Int>])
    func ranksThatHaveNoCounterpartGetNoneAndSayWhatIsLost(_ mesh: KeyValuePairs<String, Int>) throws {
        try save(["dp": 2, "tp": 3])
        let loaded = try load(mesh)
        #expect(loaded.values.allSatisfy { $0 == nil })
        #expect(!loaded.skippedEntries.isEmpty && loaded.skippedEntries.allSatisfy { $0.contains("\"generator\"") })
        let viewed = try load(mesh) { try CastReader($0, to: .f64) }
        #expect(viewed.values.allSatisfy { $0 == nil } && !viewed.skippedEntries.isEmpty)
        let whole = try store.load(step: 1)
        #expect(whole.skippedEntries.count == 1 && whole.skippedEntries[0].contains("6 ranks"))
    }

    @Test func withoutAMeshTheNumberIsAllThereIs() throws {
        let session = try store.beginSave(step: 1, rankCount: 2)
        for rank in 0..<2 {
            let half = try Tensor([Float](repeating: Float(rank), count: 48), shape: [12, 4])
            let region = try Region(offsets: [12 * rank, 0], shape: [12, 4])
            try session.write(
                rank: rank,
                fragments: [try TensorFragment(name: "w", globalShape: [24, 4], region: region, tensor: half)],
                values: [NamedValue(name: "generator", value: Value(rank + 10))])
        }
        try session.commit()
        #expect(try load(["dp": 2]).values == [10, 11])
        #expect(try load(["dp": 4]).values == [nil, nil, nil, nil])
        #expect(try store.open(step: 1).rankValues().map(\.location) == ["rank 0", "rank 1"])
    }

    @Test func theyAreListedWithTheirPlaces() throws {
        try save(["dp": 2, "tp": 2], ["generator", "position"])
        let all = try store.open(step: 1).rankValues()
        #expect(all.map(\.location) == ["rank dp=0,tp=0", "rank dp=0,tp=1", "rank dp=1,tp=0", "rank dp=1,tp=1"])
        #expect(all.allSatisfy { $0.values.map(\.name) == ["generator", "position"] })
        let renamed = try RenamedReader(store.open(step: 1), rules: [RenameRule("gen*", to: "rng.$1")])
        #expect(try renamed.rankValues()[3].values.map(\.name) == ["position", "rng.erator"])
        #expect(throws: CairnError.self) {
            try RenamedReader(store.open(step: 1), rules: [RenameRule("*o*", to: "one")]).rankValues()
        }
        #expect(throws: CairnError.self) { try SelectedReader(store.open(step: 1), include: ["none*"]) }
        #expect(throws: CairnError.self) { try CastReader(store.open(step: 1), to: .bf16, patterns: ["generator"]) }
    }

    @Test func reshardingCarriesThemByCoordinatesOrNamesThem() throws {
        try save(["dp": 2, "tp": 3])
        let reader = try store.open(step: 1)
        let target = CheckpointStore(storage: MemoryStorage(), name: "target")
        let turned = try Resharder(reading: reader, tensors: Self.tensors(["tp": 3, "dp": 2]))
        #expect(try turned.skippedEntries.isEmpty)
        try turned.write(to: target, step: 1)
        #expect(try target.open(step: 1).rankValues().map { $0.values[0].value.int } == [0, 3, 1, 4, 2, 5])
        let back = try Resharder(reading: target.open(step: 1), tensors: Self.tensors(["dp": 2, "tp": 3]))
        try back.write(to: target, step: 2)
        #expect(try target.open(step: 2).rankValues() == reader.rankValues())
        for mesh in [["dp": 6], ["dp": 3, "tp": 2], ["dp": 2]] as [KeyValuePairs<String, Int>] {
            let other = try Resharder(reading: reader, tensors: Self.tensors(mesh))
            #expect(try other.skippedEntries.count == 1)
            try other.write(
                to: target, step: 3,
                options: {
                    var options = Resharder.Options(); options.save.replacing = true; return options
                }())
            #expect(try target.open(step: 3).rankValues().isEmpty)
        }
    }

    @Test func aCopyCarriesThoseOfASingleRankAndNamesOthers() throws {
        let target = CheckpointStore(storage: MemoryStorage(), name: "target")
        try save(["dp": 1])
        #expect(try copyCheckpoint(from: store.open(step: 1), to: CairnWriter(store: target, step: 1)).isEmpty)
        #expect(try target.open(step: 1).values(ofRank: 0) == [NamedValue(name: "generator", value: 0)])
        let other = CheckpointStore(storage: MemoryStorage(), name: "other")
        let session = try other.beginSave(step: 1, rankCount: 2)
        for rank in 0..<2 { try session.write(rank: rank, fragments: [], values: [NamedValue(name: "seed", value: Value(rank))]) }
        try session.commit()
        let notes = try copyCheckpoint(from: other.open(step: 1), to: CairnWriter(store: target, step: 2))
        #expect(notes.count == 1 && notes[0].contains("2 ranks") && notes[0].contains("\"seed\""))
    }
}
