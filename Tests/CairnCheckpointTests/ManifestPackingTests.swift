import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

/// Manifests that are compressed inside.
@Suite struct ManifestPackingTests {
    private static func manifest(tensorCount: Int) throws -> Manifest {
        let tensors = (0..<tensorCount).map { index in
            #"{"name":"model.layers.\#(index + 1_000_000).weight","dtype":"BF16","shape":[\#(index % 97),3],"file":0}"#
        }
        let text = ManifestText("tensors", "[" + tensors.joined(separator: ",\n") + "]")
        return try Manifest(parsing: text.sealed, file: "m")
    }

    @Test func aBigManifestIsPackedAndReadsBackTheSame() throws {
        let manifest = try Self.manifest(tensorCount: 20_000)
        let bytes = try manifest.encoded()
        let plain = try manifest.encoded(packingAbove: .max)
        #expect(bytes.count < plain.count / 4 && plain.count > ManifestPacking.threshold)
        #expect(try JSONValue(parsing: bytes).asObject().array("requires") == [.string("packed")])
        #expect(try Manifest(parsing: bytes, file: "m") == manifest)
        #expect(try Manifest(parsing: plain, file: "m") == manifest)
        let small = try Self.manifest(tensorCount: 10).encoded()
        #expect(try JSONValue(parsing: small).asObject()["packed"] == nil)
    }

    @Test func aStateWithManyNamesIsSavedLoadedAndRebuilt() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        var state = try smallState(1)
        for index in 0..<30_000 { state.set(.string("value \(index)"), for: "a.rather.long.name.of.a.value.\(index)") }
        try store.save(state, step: 1)
        let key = "step-00000001/manifest.json"
        let bytes = try store.storage.readAll(key)
        #expect(try JSONValue(parsing: bytes).asObject()["packed"] != nil)
        #expect(try store.load(step: 1) == state)
        try store.storage.delete([key])
        try store.rebuildManifest(step: 1)
        #expect(try store.storage.readAll(key) == bytes)
    }

    @Test func everyFlippedBitAndEveryCutIsRefused() throws {
        var bytes = try Self.manifest(tensorCount: 40).encoded(packingAbove: 0)
        #expect(try Manifest(parsing: bytes, file: "m").tensors.count == 40)
        for count in 0..<bytes.count {
            #expect(throws: CairnError.self) { try Manifest(parsing: Array(bytes[..<count]), file: "m") }
            for bit in 0..<8 {
                bytes[count] ^= 1 << UInt8(bit)
                #expect(throws: CairnError.self) { try Manifest(parsing: bytes, file: "m") }
                bytes[count] ^= 1 << UInt8(bit)
            }
        }
    }

    private static let members = #""tensors":[\#(ManifestText.tensor)],"ties":[],"values":[]"#

    private static func text(_ plain: [UInt8], bytes: Int? = nil) throws -> ManifestText {
        let frame = try #require(ManifestPacking.frame(of: plain))
        return text(#"{"bytes":\#(bytes ?? plain.count),"zstd":"\#(Base64.encode(frame))"}"#)
    }

    private static func text(_ packed: String) -> ManifestText {
        var text = ManifestText("packed", packed)
        text.set("requires", #"["packed"]"#)
        for key in ["tensors", "ties", "values"] { text.set(key, nil) }
        return text
    }

    private func refuse(_ text: ManifestText, _ what: String, _ code: CairnError.Code = .malformed) {
        #expect("\(what)") { try Manifest(parsing: text.sealed, file: "m") } throws: { error in
            guard let error = error as? CairnError, error.code == code else {
                Issue.record("\(what): \(error)")
                return false
            }
            return error.context.file == "m"
        }
    }

    @Test func aLieInThePackedPartIsRefused() throws {
        let plain = Array("{\(Self.members)}".utf8)
        var honest = try Self.text(plain)
        #expect(try Manifest(parsing: honest.sealed, file: "m").tensors.count == 1)
        honest.set("requires", #"["packed","parity"]"#)
        refuse(honest, "another requirement", .unsupported)
        honest.set("requires", "[]")
        refuse(honest, "a part that is not asked for")
        honest.set("requires", #"["packed"]"#)
        honest.set("ties", "[]")
        refuse(honest, "a member twice")
        for bytes in [-1, 0, 1, plain.count - 1, plain.count + 1, 1 << 20, 1 << 30, 1 << 31, .max] {
            refuse(try Self.text(plain, bytes: bytes), "\(bytes) bytes")
        }
        for packed in [
            "5", "[]", "{}", #"{"bytes":9}"#, #"{"bytes":9,"zstd":5}"#, #"{"bytes":9,"zstd":"!"}"#,
            #"{"bytes":9,"zstd":""}"#, #"{"bytes":9,"zstd":"AAAAAAAAAAAA"}"#,
        ] {
            refuse(Self.text(packed), packed)
        }
        let deep = String(repeating: "[", count: 100_000)
        for inner in [
            "[]", "{", "null", "{\"a\":\(deep)", #"{\#(Self.members),"cairn":1}"#, #"{\#(Self.members),"requires":[]}"#,
            #"{\#(Self.members),"ties":[]}"#, #"{\#(Self.members),"checksum":"x"}"#, "{\(Self.members)}{}",
        ] {
            refuse(try Self.text(Array(inner.utf8)), "inner \(inner.prefix(60))")
        }
        var missing = try Self.text(plain)
        missing.set("packed", nil)
        refuse(missing, "no packed part")
    }

    @Test func aFrameThatExpandsTooFarIsRefusedBeforeItIsExpanded() throws {
        for byteCount in [1 << 22, 1 << 26] {
            let spaces = [UInt8](repeating: 0x20, count: byteCount)
            refuse(try Self.text(Array("{\(Self.members)}".utf8) + spaces), "\(byteCount) spaces")
        }
    }
}
