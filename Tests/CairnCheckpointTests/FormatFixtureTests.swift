#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif
import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// The committed checkpoints of format version 1 (see Fixtures/cairn/README.md): every later version must read them.
@Suite struct FormatFixtureTests {
    private var fixture: CheckpointStore { CheckpointStore(path: Repository.fixture("cairn/v1")) }

    @Test(arguments: [400, 800, 1600, 2000]) func aCommittedCheckpointIsReadBitForBit(step: Int) throws {
        let reader = try fixture.open(step: step)
        #expect(try TrainingState(reading: reader) == FixtureContent.state())
        #expect(try reader.verify().isValid)
        #expect(reader.manifest.metrics == ["loss": 1.25])
        #expect(reader.manifest.time == 1_750_000_000.5)
        #expect(reader.manifest.producer == "cairn 0.1.0")
    }

    @Test func theThreeRanksOfACommittedCheckpointKeepTheirOwnValues() throws {
        let reader = try fixture.open(step: 400)
        #expect(reader.manifest.files.count == 3)
        #expect(reader.manifest.lineage == FixtureContent.lineage)
        for rank in 0..<3 { #expect(try reader.values(ofRank: rank) == FixtureContent.values(ofRank: rank)) }
    }

    @Test(arguments: [400, 800, 1600, 2000]) func aFlippedBitAnywhereIsNoticed(step: Int) throws {
        let prefix = StepName.prefix(step)
        let memory = MemoryStorage()
        for entry in try fixture.storage.list(prefix) {
            try memory.publish(fixture.storage.readAll(entry.key, limit: 1 << 20), as: entry.key)
        }
        let store = CheckpointStore(storage: memory, name: "memory")
        for entry in try memory.list(prefix) {
            let intact = try memory.readAll(entry.key, limit: 1 << 20)
            // Every place is covered by a checksum; a stride keeps the test short and the last byte is where cuts show.
            for place in Array(stride(from: 0, to: intact.count, by: 61)) + [intact.count - 1] {
                var bytes = intact
                bytes[place] ^= 1 << UInt8(place % 8)
                try memory.publish(bytes, as: entry.key)
                #expect(try Self.isNoticed(store, step), "\(entry.key), byte \(place)")
            }
            try memory.publish(intact, as: entry.key)
        }
        #expect(try store.open(step: step).verify().isValid)
    }

    private static func isNoticed(_ store: CheckpointStore, _ step: Int) throws -> Bool {
        do {
            return try !store.open(step: step).verify().isValid
        } catch {
            return error.code.isUnusable
        }
    }

    @Test func unknownFieldsAreIgnoredAndUnknownRequirementsAreRefused() throws {
        let known = try manifestText()
        let extended = known.replacingFirst("{\"cairn\":1,", by: "{\"cairn\":1,\n\"later\":{\"anything\":[1]},")
        #expect(try Manifest(parsing: sealed(extended), file: "m") == Manifest(parsing: sealed(known), file: "m"))
        for (from, to) in [("\"requires\":[]", "\"requires\":[\"parity\"]"), ("{\"cairn\":1,", "{\"cairn\":2,")] {
            #expect {
                try Manifest(parsing: sealed(known.replacingFirst(from, by: to)), file: "m")
            } throws: {
                ($0 as? CairnError)?.code == .unsupported
            }
        }
    }

    @Test(arguments: [
        ("[[\"dp\",2],[\"tp\",2]]", "[[\"dp\",2],[\"tp\",3]]"), ("\"layout\":0", "\"layout\":9"),
        ("[\"tp\",\"shard\",1]", "[\"tp\",\"shard\",2]"), ("[\"tp\",\"shard\",1]", "[\"pp\",\"shard\",1]"),
        ("[1000,2000]", "[1000,2001]"), ("[1000,2000]", "[2000,1000]"), ("[0,{\"steps\"", "[1,{\"steps\""),
        ("\"equal\":8", "\"equal\":6"), ("[\"tp\",\"present\",[1]]", "[\"tp\",\"present\",[0]]"),
        ("[\"tp\",\"present\",[1]]", "[\"tp\",\"present\",[]]"),
    ])
    func aSealedManifestWhoseLayoutsAreWrongIsRefused(from: String, to: String) throws {
        #expect(try isNoticed(replacing: from, by: to, step: 1600), "\(to)")
    }

    @Test(arguments: [
        ("\"rank\":1", "\"rank\":2"), ("\"dtype\":\"F32\"", "\"dtype\":\"F64\""), ("[2,0],[4,5]", "[2,0],[4,6]"),
        ("[2,0],[4,5]", "[2,0],[3,5]"), ("[2,0],[4,5]", "[3,0],[4,5]"), ("\"name\":\"count\"", "\"name\":\"zzz\""),
        (",[1,[2,0]", ",[3,[2,0]"), ("rank-00000.safetensors", "../rank-00000.safetensors"),
        ("\"model.head.weight\",\"model.embedding.weight\"", "\"model.head.weight\",\"model.head.weight\""),
    ])
    func aSealedManifestThatContradictsItselfIsRefused(from: String, to: String) throws {
        #expect(try isNoticed(replacing: from, by: to, step: 400), "\(to)")
    }

    private func isNoticed(replacing from: String, by to: String, step: Int) throws -> Bool {
        let changed = try manifestText(step: step).replacingFirst(from, by: to)
        let storage = MemoryStorage()
        for entry in try fixture.storage.list(StepName.prefix(step) + "rank") {
            try storage.publish(fixture.storage.readAll(entry.key, limit: 1 << 20), as: entry.key)
        }
        try storage.publish(sealed(changed), as: StepName.prefix(step) + "manifest.json")
        return try Self.isNoticed(CheckpointStore(storage: storage, name: "memory"), step)
    }

    /// A manifest without its seal.
    private func manifestText(step: Int = 400) throws -> String {
        let bytes = try fixture.storage.readAll(StepName.prefix(step) + "manifest.json", limit: 1 << 20)
        return String(decoding: bytes.dropLast(ManifestSeal.byteCount), as: UTF8.self)
    }

    private func sealed(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        return bytes + Array(ManifestSeal.text(CRC32C.checksum(bytes.span.bytes)).utf8)
    }

    /// Where `CAIRN_FRESH_CHECKPOINTS` names a folder, the checkpoints are left there for the independent reader.
    @Test func theSameStateWrittenInFiveWaysIsOneState() throws {
        let temporary = try TemporaryDirectory()
        let kept = getenv("CAIRN_FRESH_CHECKPOINTS").map { String(cString: $0) }
        let store = CheckpointStore(path: kept ?? temporary.path)
        try FixtureContent.save(to: store)
        // The decoder that the compressed fragments of this one need reads a packed manifest too.
        let packed = try store.open(step: 1200).manifest.encoded(packingAbove: 0)
        #expect(String(decoding: packed, as: UTF8.self).contains("\"requires\":[\"packed\"]"))
        try store.storage.publish(packed, as: "step-00001200/manifest.json")
        for step in [400, 800, 1200, 1600, 2000] {
            #expect(try store.load(step: step) == FixtureContent.state())
            #expect(try store.open(step: step).verify().isValid)
        }
    }
}

extension String {
    /// The text with the first occurrence of another text replaced.
    fileprivate func replacingFirst(_ old: String, by new: String) -> String {
        guard let range = firstRange(of: old) else {
            Issue.record("the manifest has no \(old)")
            return self
        }
        return self[..<range.lowerBound] + new + self[range.upperBound...]
    }
}
