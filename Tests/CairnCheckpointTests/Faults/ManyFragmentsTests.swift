import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

/// A tensor cut into very many fragments: nothing takes effort for each pair of them.
@Suite struct ManyFragmentsTests {
    private static let count = 200_000

    @Test func aTensorOfVeryManyFragmentsIsSavedVerifiedRebuiltAndReadPartByPart() throws {
        let count = Self.count
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "memory")
        let session = try store.beginSave(step: 1, rankCount: 1)
        try session.write(
            rank: 0,
            fragments: (0..<count).map { index in
                try TensorFragment(
                    name: "w", globalShape: [count], region: Region(offsets: [index], shape: [1]),
                    tensor: Tensor([Int32(index)]))
            })
        try session.commit()
        let reader = try store.open(step: 1)
        #expect(try reader.verify().isValid)
        // Part by part, as ranks of another job would.
        let part = count / 2000
        var found: [Int32] = []
        for begin in stride(from: 0, to: count, by: part) {
            var tensor = try Tensor(zeros: .i32, [part])
            var span = tensor.mutableBytes
            try reader.read("w", region: Region(offsets: [begin], shape: [part]), into: &span)
            found += try tensor.elements(as: Int32.self)
        }
        #expect(found == (0..<Int32(count)).map { $0 })
        let manifest = try storage.readAll("step-00000001/manifest.json")
        try storage.delete(["step-00000001/manifest.json"])
        try store.rebuildManifest(step: 1)
        #expect(try storage.readAll("step-00000001/manifest.json") == manifest)
    }
}
