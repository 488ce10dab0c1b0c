import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTesting
import Testing

/// Several saves in a file, and several files that make up one state.
@Suite struct TorchFilesTests {
    private static let legacy = "torch/variants/legacy_p4.pt"
    private static let zip = "torch/variants/zip_p3.pt"
    private static let pickle = "torch/variants/plain.pkl"

    private func digest(_ storage: MemoryStorage, part: Int? = nil) throws -> CheckpointDigest {
        try CheckpointDigest(of: TorchReader(storage: storage, file: "f", part: part))
    }

    @Test(arguments: [
        [legacy, zip, pickle], [zip, zip], [zip, legacy], [pickle, pickle, legacy], [pickle, zip], [legacy, legacy],
    ])
    func everySaveOfAFileCanBeRead(names: [String]) throws {
        let storage = MemoryStorage()
        try storage.publish(names.flatMap { try Fixture.bytes($0) }, as: "f")
        for (index, name) in names.enumerated() {
            let alone = try CheckpointDigest(of: TorchReader(path: Fixture.path(name)))
            let found = try digest(storage, part: index + 1)
            #expect(found.tensors == alone.tensors, "\(name)")
            #expect(found.objects == alone.objects)
            if index == 0 { #expect(try digest(storage).tensors == alone.tensors) }
        }
        let reader = try TorchReader(storage: storage, file: "f")
        #expect(reader.skippedEntries.contains { $0.contains("holds \(names.count) saves") && $0.contains("--part N") })
        let error = try #require(refusal { _ = try digest(storage, part: names.count + 1) })
        #expect(error.code == .notFound)
    }

    @Test(arguments: [legacy, zip, pickle], [1, 100, 5000])
    func bytesBehindASaveAreSaidNotRead(name: String, count: Int) throws {
        let storage = MemoryStorage()
        try storage.publish(Fixture.bytes(name) + [UInt8](repeating: 0xA5, count: count), as: "f")
        let reader = try TorchReader(storage: storage, file: "f")
        #expect(reader.skippedEntries.contains { $0.contains("\(count) bytes at the file's end") })
        let alone = try CheckpointDigest(of: TorchReader(path: Fixture.path(name)))
        #expect(try CheckpointDigest(of: reader).tensors == alone.tensors)
        // One save alone says nothing of the kind.
        #expect(try TorchReader(path: Fixture.path(name)).skippedEntries.allSatisfy { !$0.contains("--part") })
    }

    @Test func anArchiveBehindAnotherIsNotReadAsTheFirst() throws {
        let bytes = try Fixture.bytes(Self.zip)
        let storage = MemoryStorage()
        try storage.publish(bytes + bytes, as: "f")
        let error = try #require(refusal { _ = try ZipArchive(FileWindow(storage, "f")) })
        #expect(error.description.contains("something is before the zip archive"))
        #expect(error.context.offset == bytes.count)
        try storage.publish(bytes + [0, 0, 0], as: "g")
        let trailing = try #require(refusal { _ = try ZipArchive(FileWindow(storage, "g")) })
        #expect(trailing.code == .malformed)
        #expect(trailing.context.offset == bytes.count)
    }

    private func directory(_ files: [(name: String, bytes: [UInt8])]) throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        let storage = LocalStorage(root: directory.path)
        for file in files { try storage.publish(file.bytes, as: file.name) }
        return directory
    }

    @Test func shardsOfAnIndexAreOneState() throws {
        let report = "reports/14-bin/model"
        let whole = try TorchReader(path: Fixture.path(report))
        #expect(whole.tensors.map(\.name) == ["a.w", "b.w", "emb", "head"])
        let names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
        let files = try names.map { ($0, try Fixture.bytes(report + "/" + $0)) }
        // Without the index the names say as much.
        let unindexed = try directory(files)
        #expect(try CheckpointDigest(of: TorchReader(path: unindexed.path)).tensors == CheckpointDigest(of: whole).tensors)
        func index(_ entries: String) -> (String, [UInt8]) {
            ("pytorch_model.bin.index.json", Array("{\"weight_map\": {\(entries)}}".utf8))
        }
        let first = names[0], second = names[1]
        let all = "\"a.w\": \"\(first)\", \"emb\": \"\(first)\", \"b.w\": \"\(second)\""
        for (entries, code) in [
            (all, CairnError.Code.mismatch), (all + ", \"head\": \"\(first)\"", .incomplete),
            (all + ", \"head\": \"../\(second)\"", .malformed), ("", .malformed),
            (all + ", \"head\": \"\(second)\", \"more\": \"third.bin\"", .incomplete),
        ] {
            let place = try directory(files + [index(entries)])
            let error = try #require(refusal { _ = try TorchReader(path: place.path) })
            #expect(error.code == code, "\(error)")
        }
        let place = try directory(files + [index(all + ", \"head\": \"\(second)\"")])
        #expect(try CheckpointDigest(of: TorchReader(path: place.path)).tensors == CheckpointDigest(of: whole).tensors)
        let missing = try directory([files[0], index(all + ", \"head\": \"\(second)\"")])
        let error = try #require(refusal { _ = try TorchReader(path: missing.path) })
        #expect(error.code == .incomplete)
        #expect(error.context.file?.hasSuffix(second) == true)
    }

    @Test func partsOfRanksAreGathered() throws {
        let report = "reports/07-dtensor/verl/"
        let truth = try CheckpointDigest(of: TorchReader(path: Fixture.path(report + "truth.pt")))
        let gathered = try TorchReader(path: Fixture.path(report + "actor"))
        let divided = try CheckpointDigest(of: gathered).tensors.filter { $0.name != "plain" }
        #expect(divided == truth.tensors)
        // What no mesh divides and every rank has otherwise is the first rank's, which is said.
        #expect(gathered.skippedEntries.contains { $0.contains("rank_1.pt has another plain than") })
        let files = try gathered.storedPieces(of: "a.w")?.map(\.file)
        #expect(files == ["model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt"])
        let name = "model_world_size_2_rank_1.pt"
        let alone = try #require(refusal { _ = try TorchReader(path: Fixture.path(report + "actor/" + name)) })
        #expect(alone.code == .unsupported)
        #expect(alone.description.contains("one rank's part"))
        let lonely = try directory([(name, Fixture.bytes(report + "actor/" + name))])
        let missing = try #require(refusal { _ = try TorchReader(path: lonely.path) })
        #expect(missing.code == .incomplete)
        #expect(missing.context.rank == 0)
        // The same part twice is not a whole.
        let twice = try directory(
            [0, 1].map { ("model_world_size_2_rank_\($0).pt", try Fixture.bytes(report + "actor/" + name)) })
        #expect(refusal { _ = try TorchReader(path: twice.path) }?.code == .incomplete)
    }
}
