import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

/// Rank files whose headers lie, bound by a manifest with the right checksums.
@Suite struct HostileRankFileTests {
    /// A rank file with one tensor "w" of two floats, and the manifest that binds it.
    private struct RankFileText {
        var metadata: [(key: String, value: String)] = [
            ("cairn.version", "1"), ("cairn.save_id", String(repeating: "0a", count: 16)), ("cairn.step", "1"),
            ("cairn.rank", "0"), ("cairn.ranks", "1"), ("cairn.chunk_bytes", "4096"), ("cairn.fragments", "{}"),
            ("cairn.chunks", Base64.encode(HostileRankFileTests.word(HostileRankFileTests.checksum))),
            ("cairn.values", "[]"),
        ]
        var entry = SafeTensorsHeader.Entry(name: "w", scalarType: .f32, shape: [2], byteRange: 0..<8)
        var tensor = ManifestText.tensor

        mutating func set(_ key: String, _ value: String?) {
            metadata.removeAll { $0.key == key }
            if let value { metadata.append((key, value)) }
        }

        func store() throws -> CheckpointStore {
            let header = try SafeTensorsHeader(entries: [entry], metadata: metadata).serialized(alignment: 4096)
            let bytes = header + [UInt8](repeating: 7, count: entry.byteRange.count)
            var manifest = ManifestText("tensors", "[\(tensor)]")
            let digits = String(CRC32C.checksum(header.span.bytes), radix: 16)
            let sum = String(repeating: "0", count: 8 - digits.count) + digits
            manifest.set(
                "files",
                #"""
                [{"name":"r","rank":0,"bytes":\#(bytes.count),"header_bytes":\#(header.count),
                "header_crc32c":"\#(sum)"}]
                """#)
            let storage = MemoryStorage()
            try storage.publish(bytes, as: "step-00000001/r")
            try storage.publish(manifest.sealed, as: "step-00000001/manifest.json")
            return CheckpointStore(storage: storage, name: "memory")
        }
    }

    private static let checksum: UInt32 = {
        let data = [UInt8](repeating: 7, count: 8)
        return CRC32C.checksum(data.span.bytes)
    }()

    private static func word(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    private func expect(_ code: CairnError.Code, _ text: RankFileText, _ place: String) throws {
        let store = try text.store()
        #expect("\(place)") { try store.load(step: 1) } throws: { error in
            guard let error = error as? CairnError, error.code == code else {
                Issue.record("\(place): \(error)")
                return false
            }
            return error.context.file?.contains("step-00000001/r") == true
        }
        #expect(try !store.open(step: 1).verify().isValid, "\(place)")
    }

    @Test func theTemplateItselfIsLoaded() throws {
        let state = try RankFileText().store().load(step: 1)
        #expect(try state.tensor("w").byteCount == 8)
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var key: String
        var value: String?
        var code: CairnError.Code
        var testDescription: String { "\(key): \((value ?? "missing").prefix(80)) is \(code)" }

        init(_ key: String, _ value: String?, _ code: CairnError.Code = .malformed) {
            self.key = key
            self.value = value
            self.code = code
        }
    }

    private static let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)

    static let cases: [Case] = [
        Case("cairn.version", nil), Case("cairn.version", "2", .unsupported), Case("cairn.version", "", .unsupported),
        Case("cairn.save_id", nil), Case("cairn.save_id", "0a"),
        Case("cairn.save_id", String(repeating: "0b", count: 16), .mismatch),
        Case("cairn.step", nil), Case("cairn.step", "-1"), Case("cairn.step", "01"), Case("cairn.step", "2", .mismatch),
        Case("cairn.step", "9223372036854775808"), Case("cairn.rank", "1", .mismatch), Case("cairn.rank", "x"),
        Case("cairn.ranks", "2", .mismatch), Case("cairn.ranks", nil),
        Case("cairn.chunk_bytes", "0"), Case("cairn.chunk_bytes", "1"), Case("cairn.chunk_bytes", "5000"),
        Case("cairn.chunk_bytes", "134217728"),
        Case("cairn.chunk_bytes", "9223372036854775807"), Case("cairn.chunk_bytes", nil),
        Case("cairn.values", nil), Case("cairn.values", "{}"),
        Case("cairn.values", "[1]"), Case("cairn.values", "[[1,2]]"),
        Case("cairn.values", deep),
        Case("cairn.values", "["), Case("cairn.values", #"[["a",{"$new":"1"}]]"#, .unsupported),
        Case("cairn.chunks", nil),
        Case("cairn.chunks", ""), Case("cairn.chunks", "!!"), Case("cairn.chunks", "AAAAAAAAAAA="),
        Case("cairn.chunks", "AAAAAA==", .corrupted), Case("cairn.chunks", "AAAA"),
        Case("cairn.fragments", nil),
        Case("cairn.fragments", "[]"), Case("cairn.fragments", deep), Case("cairn.fragments", ""),
        Case("cairn.fragments", #"{"nothing":{}}"#), Case("cairn.fragments", #"{"w":5}"#),
        Case("cairn.fragments", #"{"w":{"name":5}}"#), Case("cairn.fragments", #"{"w":{"name":"v"}}"#, .incomplete),
        Case("cairn.fragments", #"{"w":{"codec":"later"}}"#, .unsupported),
        Case("cairn.fragments", #"{"w":{"codec":1}}"#),
        Case("cairn.fragments", #"{"w":{"shape":[-1]}}"#), Case("cairn.fragments", #"{"w":{"shape":[1]}}"#),
        Case("cairn.fragments", #"{"w":{"shape":[2,1]}}"#), Case("cairn.fragments", #"{"w":{"shape":[3]}}"#, .mismatch),
        Case("cairn.fragments", #"{"w":{"shape":[4611686018427387904]}}"#),
        Case("cairn.fragments", #"{"w":{"shape":[4294967296,4294967296]}}"#),
        Case("cairn.fragments", #"{"w":{"shape":[4],"offset":[3]}}"#),
        Case("cairn.fragments", #"{"w":{"offset":[-1]}}"#),
        Case("cairn.fragments", #"{"w":{"offset":[9223372036854775807]}}"#),
        Case("cairn.fragments", #"{"w":{"offset":[0,0]}}"#),
        Case("cairn.fragments", #"{"w":{"shape":[4],"offset":[2]}}"#, .incomplete),
        Case("cairn.fragments", #"{"w":{"codec":"zstd-planes"}}"#),
        Case("cairn.fragments", #"{"w":{"codec":"zstd-planes","dtype":"F33","extent":[2]}}"#, .unsupported),
        Case("cairn.fragments", #"{"w":{"codec":"zstd-planes","dtype":"F32","extent":[4611686018427387904]}}"#),
        Case("cairn.fragments", #"{"w":{"codec":"zstd-planes","dtype":"F4","extent":[3]}}"#),
    ]

    @Test(arguments: cases)
    func aLieInAHeaderIsAnErrorOfItsKind(_ broken: Case) throws {
        var text = RankFileText()
        text.set(broken.key, broken.value)
        try expect(broken.code, text, "\(broken.key)")
    }

    /// A tensor of which the manifest says that it has a petabyte must not cost one before a file has been asked.
    @Test func aPetabyteThatNoFileHasIsRefusedBeforeMemoryIsTaken() throws {
        let count = 1 << 50
        var whole = RankFileText()
        whole.tensor = #"{"name":"w","dtype":"U8","shape":[\#(count)],"file":0}"#
        try expect(.incomplete, whole, "one fragment")
        let store = try whole.store()
        #expect(throws: CairnError.self) { try store.open(step: 1).tensor("w") }
        var halves = RankFileText()
        halves.tensor = """
            {"name":"w","dtype":"U8","shape":[\(count)],
            "fragments":[[0,[0],[\(count / 2)]],[0,[\(count / 2)],[\(count / 2)]]]}
            """
        try expect(.incomplete, halves, "two fragments")
    }

    static let codecs = ["zstd-planes", "exponent-planes"]

    @Test(arguments: codecs) func aChunkThatClaimsToExpandBeyondWhatZstdCanIsRefused(codec: String) throws {
        let claims: [(Int, UInt32)] = [(1 << 50, 8), (64 << 20, 8), (64 << 20, 0), (64 << 20, .max), (4096, 4097)]
        for (extent, stored) in claims {
            var text = RankFileText()
            text.tensor = #"{"name":"w","dtype":"U8","shape":[\#(extent)],"file":0}"#
            text.entry = SafeTensorsHeader.Entry(name: "w", scalarType: .u8, shape: [8], byteRange: 0..<8)
            text.set("cairn.chunk_bytes", "67108864")
            text.set("cairn.fragments", #"{"w":{"codec":"\#(codec)","dtype":"U8","extent":[\#(extent)]}}"#)
            text.set("cairn.chunks", Base64.encode(Self.word(stored) + Self.word(Self.checksum)))
            try expect(.malformed, text, "\(extent) bytes from \(stored)")
        }
    }

    /// Chunks that claim no more than a frame can, and together a terabyte: their bytes are asked before memory is taken.
    @Test(arguments: codecs) func aTerabyteThatNoChunkHoldsIsRefusedBeforeMemoryIsTaken(codec: String) throws {
        let count = 16_384
        let extent = count * (64 << 20)
        var text = RankFileText()
        text.tensor = #"{"name":"w","dtype":"U8","shape":[\#(extent)],"file":0}"#
        text.entry = SafeTensorsHeader.Entry(
            name: "w", scalarType: .u8, shape: Shape([count * 2048]), byteRange: 0..<count * 2048)
        text.set("cairn.chunk_bytes", "67108864")
        text.set("cairn.fragments", #"{"w":{"codec":"\#(codec)","dtype":"U8","extent":[\#(extent)]}}"#)
        let stored = [UInt8](repeating: 7, count: 2048)
        let entry = Self.word(2048) + Self.word(CRC32C.checksum(stored.span.bytes))
        text.set("cairn.chunks", Base64.encode([[UInt8]](repeating: entry, count: count).flatMap { $0 }))
        let store = try text.store()
        #expect { try store.load(step: 1) } throws: { ($0 as? CairnError)?.code == .corrupted }
        #expect { try store.open(step: 1).tensor("w") } throws: { ($0 as? CairnError)?.code == .corrupted }
    }

    @Test(arguments: codecs) func aFrameThatExpandsToAnotherLengthIsCorrupted(codec: String) throws {
        var text = RankFileText()
        text.tensor = #"{"name":"w","dtype":"U8","shape":[4096],"file":0}"#
        text.entry = SafeTensorsHeader.Entry(name: "w", scalarType: .u8, shape: [8], byteRange: 0..<8)
        text.set("cairn.fragments", #"{"w":{"codec":"\#(codec)","dtype":"U8","extent":[4096]}}"#)
        text.set("cairn.chunks", Base64.encode(Self.word(8) + Self.word(Self.checksum)))
        try expect(.corrupted, text, "no frame")
    }

    /// The length before the JSON, and what it is compared with.
    @Test func aHeaderLengthThatTheFileDoesNotHaveIsRefused() throws {
        for length: UInt64 in [0, 1, 4089, 1 << 20, 100_000_001, 1 << 62, .max] {
            let head = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) }
            let bytes = head + [UInt8](repeating: 0x20, count: 4088) + [UInt8](repeating: 7, count: 8)
            let digits = String(CRC32C.checksum(bytes.span.extracting(0..<4096).bytes), radix: 16)
            let sum = String(repeating: "0", count: 8 - digits.count) + digits
            let storage = MemoryStorage()
            let file = #"{"name":"r","rank":0,"bytes":4104,"header_bytes":4096,"header_crc32c":"\#(sum)"}"#
            try storage.publish(bytes, as: "step-00000001/r")
            try storage.publish(ManifestText("files", "[\(file)]").sealed, as: "step-00000001/manifest.json")
            let store = CheckpointStore(storage: storage, name: "memory")
            #expect(throws: CairnError.self, "\(length)") { try store.load(step: 1) }
        }
    }
}
