import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct SafeTensorsRoundTripTests {
    @Test(arguments: 0..<60 as Range<UInt64>) func whatIsWrittenIsReadBackBitForBit(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let count = Int.random(in: 0...40, using: &generator)
        let checkpoint = try MemoryCheckpoint.random(count, using: &generator)
        let limit = seed % 3 == 0 ? nil : Int.random(in: 1...2000, using: &generator)
        let directory = try TemporaryDirectory()
        let writer = try SafeTensorsWriter(path: directory.path, maximumShardByteCount: limit)
        let notes = try copyCheckpoint(
            from: checkpoint, to: writer, bufferByteCount: Int.random(in: 1...500, using: &generator))
        #expect(notes.count == (count > 0 ? 2 : 1))
        let reader = try SafeTensorsReader(path: directory.path)
        #expect(try difference(checkpoint, reader) == nil, "seed \(seed)")
        for tensor in reader.tensors {
            let mapped = try reader.mapped(tensor.name)
            #expect(try mapped == nil || mapped == checkpoint.tensor(tensor.name), "seed \(seed)")
            #expect(mapped != nil || tensor.scalarType.bitWidth > 8, "seed \(seed)")
        }
        let again = try SafeTensorsWriter(path: directory.path, maximumShardByteCount: limit)
        #expect(throws: CairnError.self) { try again.begin(tensors: [], values: []) }
        // Another number of files in the place of the old ones leaves none of those.
        let replacing = try SafeTensorsWriter(
            path: directory.path, maximumShardByteCount: limit.map { $0 * 2 }, replaces: true)
        _ = try copyCheckpoint(from: checkpoint, to: replacing)
        #expect(try difference(checkpoint, SafeTensorsReader(path: directory.path)) == nil, "seed \(seed)")
    }

    @Test func filesAreLaidOutAsTheFormatsOwnLibraryDoes() throws {
        let original = SafeTensorsFixtures.storage
        let reader = try SafeTensorsReader(storage: original, file: "single/model.safetensors")
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: reader, to: SafeTensorsWriter(storage: storage, key: "x.safetensors"))
        let theirs = try SafeTensorsHeader.read(from: original.open("single/model.safetensors"))
        let ours = try SafeTensorsHeader.read(from: storage.open("x.safetensors"))
        #expect(ours.entries == theirs.entries)
        #expect(ours.dataStart % 64 == 0)
        let theirData = try original.readAll("single/model.safetensors").dropFirst(theirs.dataStart)
        #expect(try storage.readAll("x.safetensors").dropFirst(ours.dataStart) == theirData)
    }

    @Test func anInterruptedWriterLeavesNothing() throws {
        var generator = SeededGenerator(seed: 5)
        for limit in [nil, 300] as [Int?] {
            let checkpoint = try MemoryCheckpoint.random(30, using: &generator)
            var readLimit = 0
            while true {
                var failing = try MemoryCheckpoint(reading: checkpoint)
                failing.readLimit = readLimit
                let storage = MemoryStorage()
                let writer = SafeTensorsWriter(storage: storage, key: "m.safetensors", maximumShardByteCount: limit)
                do {
                    _ = try copyCheckpoint(from: failing, to: writer, bufferByteCount: 100)
                    break
                } catch {
                    #expect((error as? CairnError)?.code == .inputOutput)
                    #expect(try storage.list("").isEmpty)
                }
                readLimit += 1
            }
            #expect(readLimit > 10)
        }
    }

    @Test func whatACrashLeavesDoesNotLookWhole() throws {
        var generator = SeededGenerator(seed: 6)
        var checkpoint = MemoryCheckpoint()
        for index in 0..<6 {
            checkpoint.add("t\(index)", try Tensor.random(.u8, [100], using: &generator))
        }
        let directory = try TemporaryDirectory()
        let writer = try SafeTensorsWriter(path: directory.path, maximumShardByteCount: 200)
        _ = try writer.begin(tensors: checkpoint.tensors, values: [])
        for tensor in checkpoint.tensors {
            #expect(throws: CairnError.self) { try SafeTensorsReader(path: directory.path) }
            let bytes = try checkpoint.tensor(tensor.name)
            try writer.append(bytes.bytes)
        }
        #expect(try LocalStorage(root: directory.path).list("").count == 3)
        #expect(throws: CairnError.self) { try SafeTensorsReader(path: directory.path) }
        try writer.finish()
        #expect(try difference(checkpoint, SafeTensorsReader(path: directory.path)) == nil)
        #expect(
            try LocalStorage(root: directory.path).list("").map(\.key) == [
                "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors", "model.safetensors.index.json",
            ])
        // All files but no index are a checkpoint, fewer are not.
        try LocalStorage(root: directory.path).delete(["model.safetensors.index.json"])
        #expect(try difference(checkpoint, SafeTensorsReader(path: directory.path)) == nil)
        try LocalStorage(root: directory.path).delete(["model-00002-of-00003.safetensors"])
        do throws(CairnError) {
            _ = try SafeTensorsReader(path: directory.path)
            Issue.record("it was read")
        } catch {
            #expect(error.code == .incomplete)
            #expect(error.context.expected == "model-00002-of-00003.safetensors")
        }
    }

    @Test func aWriterWantsJustTheBytesThatWereAnnounced() throws {
        let tensor = TensorDescription(name: "a", scalarType: .u8, shape: [2])
        let storage = MemoryStorage()
        let short = SafeTensorsWriter(storage: storage, key: "x")
        _ = try short.begin(tensors: [tensor], values: [])
        let byte = Tensor([1] as [UInt8])
        try short.append(byte.bytes)
        #expect(throws: CairnError.self) { try short.finish() }
        short.discard()
        let long = SafeTensorsWriter(storage: storage, key: "x")
        _ = try long.begin(tensors: [tensor], values: [])
        let bytes = Tensor([1, 2, 3] as [UInt8])
        #expect(throws: CairnError.self) { try long.append(bytes.bytes) }
        long.discard()
        #expect(try storage.list("").isEmpty)
        let dangling = TensorDescription(name: "b", scalarType: .u8, shape: [2], tiedTo: "c")
        #expect(throws: CairnError.self) {
            try SafeTensorsWriter(storage: storage, key: "x").begin(tensors: [tensor, dangling], values: [])
        }
    }
}
