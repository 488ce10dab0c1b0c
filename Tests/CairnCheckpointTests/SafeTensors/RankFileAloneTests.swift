import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Rank files of checkpoints, each of which is a safetensors file too.
@Suite struct RankFileAloneTests {
    @Test func aRankFileThatHoldsValuesOpensByItself() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "run")
        try saveInTwoRanks(smallState(3), step: 1, in: store, repeatableOptions(3))
        for rank in 0..<2 {
            let file = try SafeTensorsReader(storage: store.storage, file: store.rankKey(rank, step: 1))
            #expect(file.values == [NamedValue(name: "rank", value: Value(rank))])
            let own = try store.open(step: 1)
            for tensor in file.tensors {
                let rows = try own.description(of: tensor.name).shape.extents.first ?? 1
                let whole = try own.tensor(tensor.name)
                guard tensor.shape != whole.shape else {
                    #expect(try file.tensor(tensor.name) == whole)
                    continue
                }
                let begin = rank == 0 ? 0 : rows - tensor.shape[0]
                let offsets = [begin] + [Int](repeating: 0, count: tensor.shape.dimensionCount - 1)
                #expect(try file.tensor(tensor.name) == whole.copy(of: Region(offsets: offsets, shape: tensor.shape)))
            }
            let note = try #require(file.skippedEntries.first)
            #expect(note.contains("rank \(rank) of 2") && note.contains("parts of larger ones"))
        }
    }

    @Test func theFixturesOfVersionOneDoToo() throws {
        let storage = LocalStorage(root: Repository.root + "/Fixtures/cairn/v1")
        var count = 0
        for entry in try storage.list("") where entry.key.hasSuffix(".safetensors") {
            let file = try SafeTensorsReader(storage: storage, file: entry.key)
            #expect(file.skippedEntries.first != nil)
            count += file.values.isEmpty ? 0 : 1
        }
        #expect(count >= 3)
    }

    /// Its checksums stand in its own header, so that a changed bit is found without the manifest.
    @Test(arguments: [Compression.none, .zstd()])
    func aDeepVerificationOfARankFileFindsAChangedBit(_ compression: Compression) throws {
        let storage = MemoryStorage()
        let store = CheckpointStore(storage: storage, name: "run")
        try store.save(smallState(1, scale: 8), step: 1, options: repeatableOptions(1) { $0.compression = compression })
        let key = try store.rankKey(step: 1)
        let whole = try SafeTensorsReader(storage: storage, file: key).verify(deep: true) { _ in }
        #expect(whole.isValid && whole.unsummedByteCount == 0 && whole.chunkCount > 0)
        var bytes = try storage.readAll(key)
        let header = try SafeTensorsHeader.read(from: storage.open(key))
        bytes[header.dataStart + (bytes.count - header.dataStart) / 2] ^= 0x10
        try storage.publish(bytes, as: key)
        let reader = try SafeTensorsReader(storage: storage, file: key)
        #expect(try reader.verify(deep: false) { _ in }.isValid)
        let damages = try reader.verify(deep: true) { _ in }.damages
        #expect(damages.count == 1 && damages[0].error.code == .corrupted, "\(damages)")
        #expect(damages.first?.error.context.tensor != nil)
    }

    @Test func aCompressedRankFileSaysThatItsTensorsAreBytes() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "run")
        try store.save(smallState(1, scale: 8), step: 1, options: repeatableOptions(1) { $0.compression = .zstd() })
        let file = try SafeTensorsReader(storage: store.storage, file: store.rankKey(step: 1))
        #expect(file.skippedEntries.first?.contains("compressed and seen as bytes") == true)
        try store.save(smallState(1), step: 2, options: repeatableOptions(2))
        let plain = try SafeTensorsReader(storage: store.storage, file: store.rankKey(step: 2))
        #expect(plain.skippedEntries.first?.contains(";") == false)
    }
}
