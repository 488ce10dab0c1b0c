import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct DistributedCheckpointTests {
    private func reader(_ name: String) throws -> DistributedCheckpointReader {
        try DistributedCheckpointReader(path: Fixture.path(name))
    }

    /// A checkpoint of the fixtures in memory, to be damaged.
    private func copy(_ name: String) throws -> MemoryStorage {
        let storage = LocalStorage(root: Fixture.path(name))
        let memory = MemoryStorage()
        for entry in try storage.list("") { try memory.publish(storage.readAll(entry.key), as: entry.key) }
        return memory
    }

    @Test(arguments: [
        "w1_plain", "w2_async", "w2_ddp", "w2_dtensor_zoo", "w2_file_per_item", "w2_flat_false", "w2_fsdp2_adamw", "w2_hf",
        "w4_dtensor_zoo", "w4_fsdp2_bf16",
        "w4_tp2_fsdp2",
    ])
    func checkpointsThatTorchWroteHoldWhatItSays(name: String) throws {
        let reader = try reader("dcp/\(name)/checkpoint")
        try Fixture.check(
            CheckpointDigest(of: reader, bufferByteCount: 512), against: Fixture.truth("dcp/" + name), name)
        #expect(try reader.verify(deep: true) { _ in }.isValid)
        #expect(reader.skippedEntries.isEmpty)
    }

    @Test(arguments: ["zstd", "safetensors", "each_rank"])
    func everyOptionOfTheWriterIsRead(option: String) throws {
        let folder = "dcp/w2_options"
        let reader = try reader(folder + "/" + option)
        try Fixture.check(
            CheckpointDigest(of: reader, bufferByteCount: 512), against: Fixture.truth(folder), option)
        #expect(try reader.verify(deep: true) { _ in }.isValid)
        #expect(try reader.storedPieces(of: "model.w")?.map(\.region.offsets) == [[0, 0], [4, 0]])
    }

    @Test func aDamagedValueOfAnyRankIsNoticed() throws {
        let memory = try copy("dcp/w2_options/each_rank")
        var bytes = try memory.readAll("__1_0.distcp")
        // The learning rate, as the pickle has it: G and eight bytes.
        let needle: [UInt8] = [0x47, 0x3F, 0x1A, 0x36, 0xE2, 0xEB, 0x1C, 0x43, 0x2D]
        let place = try #require(bytes.firstRange(of: needle)?.lowerBound)
        bytes[place + 8] ^= 1
        try memory.publish(bytes, as: "__1_0.distcp")
        let found = refusal { _ = try DistributedCheckpointReader(storage: memory, source: "memory") }
        #expect(found?.code == .corrupted)
        #expect(found?.context.file == "__1_0.distcp")
    }

    @Test func aFlippedBitInACompressedItemIsNoticed() throws {
        let memory = try copy("dcp/w2_options/zstd")
        let reader = try DistributedCheckpointReader(storage: memory, source: "memory")
        let file = try #require(try reader.storedPieces(of: "model.large")?.last).file
        let whole = try memory.readAll(file)
        var damages = 0
        for place in stride(from: 7, to: whole.count, by: 97) {
            var bytes = whole
            bytes[place] ^= 0x10
            try memory.publish(bytes, as: file)
            do {
                let damaged = try DistributedCheckpointReader(storage: memory, source: "memory")
                for tensor in damaged.tensors { _ = try damaged.tensor(tensor.name) }
            } catch {
                #expect((error as? CairnError)?.context.file?.hasSuffix(file) == true, "\(place): \(error)")
                damages += 1
            }
        }
        // Only what is never read may change unseen.
        #expect(damages > whole.count / 97 / 2)
    }

    @Test func whatMegatronKeepsBesideTheShardsIsReadToo() throws {
        let folder = "megatron/torch_dist_tp2"
        let reader = try reader(folder + "/checkpoint")
        #expect(reader.values.contains { $0.name == "iteration" && $0.value == 3 })
        let tensors = try Fixture.truth(folder).array("tensors")
        let truth: JSONObject = ["tensors": .array(tensors)]
        try Fixture.check(CheckpointDigest(of: reader), against: truth, folder)
    }

    @Test func shardsAndTheirConsolidationHoldTheSame() throws {
        let truth = try Fixture.truth("dcp/w2_hf_consolidated")
        let folder = "dcp/w2_hf_consolidated/checkpoint"
        try Fixture.check(CheckpointDigest(of: reader(folder + "/sharded")), against: truth, "sharded")
        let consolidated = try SafeTensorsReader(path: Fixture.path(folder))
        try Fixture.check(CheckpointDigest(of: consolidated), against: truth, "consolidated")
    }

    @Test(arguments: ["w1_full", "w2_pp2", "w2_tp2", "w3_uneven_fsdp", "w8_fsdp4_tp2"])
    func everyShardOfEveryLayoutIsWhatTorchLoads(layout: String) throws {
        let folder = "reshard/tp2xdp2_to_many"
        let reader = try reader(folder + "/checkpoint")
        let ranks = try Fixture.truth(folder).object("layouts").object(layout).array("ranks")
        var count = 0
        for (rank, shards) in ranks.enumerated() {
            let file = "\(folder)/expected/\(layout)/rank\(rank).safetensors"
            let expected = try SafeTensorsReader(path: Fixture.path(file))
            for shard in try shards.asObject().members {
                let place = try shard.value.asObject()
                let offsets = try place.array("offset").map { try $0.asInteger() }
                let extents = try place.array("local_shape").map { try $0.asInteger() }
                let region = try Region(offsets: offsets, shape: Shape(checking: extents))
                let description = try reader.description(of: shard.key)
                let found = try Tensor(description.scalarType, region.shape) {
                    try reader.read(shard.key, region: region, into: &$0)
                }
                #expect(try found == expected.tensor(shard.key), "\(layout) rank \(rank) \(shard.key)")
                count += 1
            }
        }
        #expect(count >= 50)
    }

    @Test func fragmentsCoverEachTensorAndNameTheirFiles() throws {
        let reader = try reader("dcp/w4_tp2_fsdp2/checkpoint")
        var files: Set<String> = []
        for tensor in reader.tensors {
            let fragments = try #require(try reader.storedPieces(of: tensor.name))
            try FragmentCoverage.check(fragments.map(\.region), of: tensor.shape)
            files.formUnion(fragments.map(\.file))
        }
        #expect(files == ["__0_0.distcp", "__1_0.distcp", "__2_0.distcp", "__3_0.distcp"])
    }

    @Test func aLostOrShortFileIsNamed() throws {
        let memory = try copy("dcp/w4_dtensor_zoo/checkpoint")
        let whole = try memory.readAll("__2_0.distcp")
        try memory.publish(Array(whole.dropLast(1)), as: "__2_0.distcp")
        let short = refusal { _ = try DistributedCheckpointReader(storage: memory, source: "memory") }
        #expect(short?.code == .incomplete)
        #expect(short?.context.file == "__2_0.distcp")
        #expect(short?.context.tensor != nil)
        try memory.delete(["__2_0.distcp"])
        let lost = refusal { _ = try DistributedCheckpointReader(storage: memory, source: "memory") }
        #expect(lost?.code == .incomplete)
        #expect(lost?.context.file == "__2_0.distcp")
    }

    @Test func aFlippedBitInAChunkIsNoticed() throws {
        let memory = try copy("dcp/w2_dtensor_zoo/checkpoint")
        let reader = try DistributedCheckpointReader(storage: memory, source: "memory")
        let piece = try #require(try reader.storedPieces(of: "s0_even")?.last)
        let (region, file) = (piece.region, piece.file)
        let tensor = try reader.tensor("s0_even").copy(of: region)
        var bytes = try memory.readAll(file)
        let needle = tensor.bytes.withUnsafeBytes { Array($0) }
        let place = try #require(bytes.firstRange(of: needle)?.lowerBound)
        bytes[place + 5] ^= 4
        try memory.publish(bytes, as: file)
        let damaged = try DistributedCheckpointReader(storage: memory, source: "memory")
        let found = refusal { _ = try damaged.tensor("s0_even") }
        #expect(found?.code == .corrupted)
        #expect(found?.context.file == file)
        #expect(found?.context.offset == place)
        let report = try damaged.verify(deep: true) { _ in }
        #expect(report.damages.map(\.error.context.tensor) == ["s0_even"])
        #expect(report.damages.map(\.error.context.offset) == [place])
    }

    @Test func chunksThatDoNotCoverTheirTensorAreRefused() throws {
        let memory = try copy("dcp/w2_dtensor_zoo/checkpoint")
        let metadata = try memory.readAll(".metadata")
        // The first chunk of the first tensor, of 4 x 6 from [0, 0], made to be of 3 x 6: a hole; of 5 x 6: an overlap.
        let sizes: [UInt8] = [0x4B, 4, 0x4B, 6, 0x86]
        let place = try #require(metadata.firstRange(of: sizes)?.lowerBound)
        for (rows, code) in [(UInt8(3), CairnError.Code.incomplete), (5, .malformed)] {
            var changed = metadata
            changed[place + 1] = rows
            try memory.publish(changed, as: ".metadata")
            let found = refusal { _ = try DistributedCheckpointReader(storage: memory, source: "memory") }
            #expect(found?.code == code)
            #expect(found?.context.tensor == "s0_even")
            #expect(found?.context.file == ".metadata")
        }
    }

    @Test func mutatedMetadataNeverCrashes() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let memory = try copy("dcp/w2_dtensor_zoo/checkpoint")
        let metadata = try memory.readAll(".metadata")
        var intact = 0
        for _ in 0..<1_500 {
            var changed = metadata
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                changed[Int.random(in: 0..<changed.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            try memory.publish(changed, as: ".metadata")
            do {
                let reader = try DistributedCheckpointReader(storage: memory, source: "memory")
                for tensor in reader.tensors where tensor.byteCount < 1 << 20 { _ = try? reader.tensor(tensor.name) }
                intact += 1
            } catch {
                #expect(error.context.file != nil, "seed \(seed): \(error)")
            }
        }
        #expect(intact > 0, "seed \(seed)")
    }

    @Test func rawItemsAreReadAsTheyAre() throws {
        // The same metadata over items that are nothing but the elements.
        let source = try reader("dcp/w2_file_per_item/checkpoint")
        let memory = try copy("dcp/w2_file_per_item/checkpoint")
        var metadata = try memory.readAll(".metadata")
        let piece = try #require(try source.storedPieces(of: "s0_even")?.first)
        let (region, file) = (piece.region, piece.file)
        let chunk = try source.tensor("s0_even").copy(of: region)
        let elements = chunk.bytes.withUnsafeBytes { Array($0) }
        let length = try memory.readAll(file).count
        // The length stands in the metadata as it is pickled: K for one byte, M for two.
        let old: [UInt8] = [0x4D, UInt8(length & 0xFF), UInt8(length >> 8)]
        let name = try #require(metadata.firstRange(of: Array(file.utf8))?.upperBound)
        let place = try #require(metadata[name...].firstRange(of: old)?.lowerBound)
        metadata.replaceSubrange(
            place..<place + 3, with: [0x4D, UInt8(elements.count & 0xFF), UInt8(elements.count >> 8)])
        try memory.publish(metadata, as: ".metadata")
        try memory.publish(elements, as: file)
        let raw = try DistributedCheckpointReader(storage: memory, source: "memory")
        #expect(try raw.tensor("s0_even") == source.tensor("s0_even"))
    }

    @Test func aDirectoryOfSomethingElseIsRefused() throws {
        #expect(refusal { _ = try reader("data") }?.code == .notFound)
        let memory = MemoryStorage()
        try memory.publish(Array("}.".utf8), as: ".metadata")
        let found = refusal { _ = try DistributedCheckpointReader(storage: memory, source: "memory") }
        #expect(found?.code == .malformed)
    }
}
