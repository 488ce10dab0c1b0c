import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnReshard
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// A view of a checkpoint is read as the checkpoint itself is: by as many reads, planned by its stored pieces, with its identity,
/// and verified.
@Suite struct ViewLoadTests {
    private let storage = CountingStorage(MemoryStorage())
    private let store: CheckpointStore

    init() { store = CheckpointStore(storage: storage, name: "run") }

    private static let shape: Shape = [96, 4096]

    private static func tensors(
        _ ranks: Int, names: [String] = ["a", "b"], type: ScalarType = .f32
    ) throws -> [PlacedTensor] {
        let layout = try Layout(DeviceMesh(["dp": ranks]), ["dp": .shard(0)])
        return names.map { PlacedTensor(name: $0, scalarType: type, shape: shape, layout: layout) }
    }

    /// Saves step 1 on three ranks: pieces of several chunks each.
    private func save() throws {
        let (tensors, store) = (try Self.tensors(3), store)
        try ThreadCommunicator.run(ranks: 3) { communicator in
            var state = try ShardedState(rank: communicator.rank, rankCount: 3, tensors: tensors)
            for (index, tensor) in tensors.enumerated() {
                let whole = try Tensor((0..<Self.shape.elementCount).map { Float($0 % 1000 + index) }, shape: Self.shape)
                if let part = try tensor.sharded().part(ofRank: communicator.rank, of: whole) {
                    try state.set(part, for: tensor.name)
                }
            }
            state.rankValues = [NamedValue(name: "generator", value: Value(communicator.rank))]
            try ShardedStore(store, over: communicator).save(state, step: 1)
        }
    }

    private static let views: [(name: String, make: @Sendable (CairnReader) throws -> any CheckpointReader)] = [
        ("renamed", { try RenamedReader($0, rules: [RenameRule("*", to: "model.$1")]) }),
        ("selected", { try SelectedReader($0, include: ["*"]) }),
        ("cast", { try CastReader($0, to: .bf16) }),
        (
            "all three",
            {
                try CastReader(
                    RenamedReader(SelectedReader($0, include: ["*"]), rules: [RenameRule("*", to: "model.$1")]), to: .f16)
            }
        ),
    ]

    @Test(arguments: views.indices)
    func aViewLoadsByTheReadsOfItsCheckpoint(_ index: Int) throws {
        try save()
        let base = try store.open(step: 1)
        let view = try Self.views[index].make(try store.open(step: 1))
        let type = view.tensors[0].scalarType
        storage.reset()
        let state = try TrainingState(reading: base)
        let reads = storage.reads
        #expect(reads.count > 3)
        storage.reset()
        let viewed = try TrainingState(reading: view)
        #expect(storage.reads == reads)
        for (one, other) in zip(base.tensors, view.tensors) {
            let expected = try state.tensor(one.name).converted(to: type)
            #expect(try viewed.tensor(other.name) == expected)
        }
        // The same of a load under another layout, and of its plan.
        let plan = try ReadPlan(reading: base, rank: 1, tensors: Self.tensors(2))
        let viewedPlan = try ReadPlan(
            reading: view, rank: 1, tensors: Self.tensors(2, names: view.tensors.map(\.name), type: type))
        #expect(try viewedPlan.cost() == plan.cost())
        #expect(try plan.cost().fragmentCount == 4)
        storage.reset()
        _ = try plan.execute(reading: base)
        let planned = storage.reads
        storage.reset()
        let part = try viewedPlan.execute(reading: view)
        #expect(storage.reads == planned)
        let name = view.tensors[1].name
        let whole = try viewed.tensor(name)
        #expect(try part.local(name) == Self.tensors(2, names: [name], type: type)[0].sharded().part(ofRank: 1, of: whole))
    }

    @Test(arguments: views.indices)
    func aViewHasTheIdentityOfItsCheckpointAndItsValuesOfRanks(_ index: Int) throws {
        try save()
        let base = try store.open(step: 1)
        let view = try Self.views[index].make(base)
        #expect(view.identity == base.identity && view.identity?.step == 1 && view.identity?.rankCount == 3)
        #expect(try view.rankValues().map(\.rank) == [0, 1, 2])
        #expect(try view.rankValues(ofRank: 2)?.values.first?.value == 2)
        let tensor = try #require(view.tensors.first)
        #expect(try view.storedPieces(of: tensor.name)?.map(\.region.offsets) == [[0, 0], [32, 0], [64, 0]])
        let few = try view.storedPieces(of: tensor.name, in: Region(offsets: [40, 0], shape: [1, 1]))
        #expect(try few == base.storedPieces(of: "a", in: Region(offsets: [40, 0], shape: [1, 1])) && few?.count == 1)
    }

    @Test(arguments: views.indices)
    func aViewFindsTheDamageOfItsCheckpoint(_ index: Int) throws {
        try save()
        let view = try Self.views[index].make(try store.open(step: 1))
        #expect(try view.verify(deep: true) { _ in }.isValid)
        let file = try #require(view.storedPieces(of: view.tensors[0].name)?.last?.file)
        let key = try #require(storage.list("").map(\.key).first { $0.hasSuffix(file) })
        var bytes = try storage.readAll(key, limit: 1 << 24)
        bytes[bytes.count / 2] ^= 1
        try storage.publish(bytes, as: key)
        let damaged = try Self.views[index].make(try store.open(step: 1))
        #expect(try !damaged.verify(deep: true) { _ in }.isValid)
        #expect(throws: CairnError.self) { _ = try TrainingState(reading: damaged) }
    }

    /// A selection is verified by the checksums of its checkpoint, and is not blamed for what it leaves out.
    @Test func aSelectionIsVerifiedByChecksumsAndForItselfAlone() throws {
        try save()
        let piece = try #require(store.open(step: 1).storedPieces(of: "a")?.first)
        let key = try #require(storage.list("").map(\.key).first { $0.hasSuffix(piece.file) })
        var bytes = try storage.readAll(key, limit: 1 << 24)
        // The header comes first, then the pieces in the order of their names: the last byte is of "b".
        bytes[bytes.count - 1] ^= 1
        try storage.publish(bytes, as: key)
        let report = try SelectedReader(store.open(step: 1), include: ["a"]).verify(deep: true) { _ in }
        #expect(report.isValid && report.unsummedByteCount == 0 && report.byteCount > 0)
        let other = try SelectedReader(store.open(step: 1), include: ["b"]).verify(deep: true) { _ in }
        #expect(other.damages.map(\.error.context.tensor) == ["b"] && other.unsummedByteCount == 0)
    }

    /// What a conversion loses is noted once, whichever way the elements come.
    @Test func aCastNotesWhatItLosesInBulkAndByRegionAlike() throws {
        var state = TrainingState()
        var numbers = [Float](repeating: 1, count: 300_000)
        for index in [0, 70_000, 262_144, 299_999] { numbers[index] = 1e30 }
        state.set(try Tensor(numbers, shape: [300, 1000]), for: "w")
        try store.save(state, step: 1)
        let bulk = try CastReader(store.open(step: 1), to: .f16)
        _ = try TrainingState(reading: bulk)
        let single = try CastReader(store.open(step: 1), to: .f16)
        _ = try single.tensor("w")
        #expect(bulk.losses?.count == 1 && bulk.losses == single.losses)
        // Read again, nothing is counted twice.
        _ = try TrainingState(reading: bulk)
        #expect(bulk.losses == single.losses)
        #expect(bulk.losses?.first?.description.contains("4 of 300000") == true)
    }
}
