import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

@Suite struct SafeTensorsHeaderTests {
    private func parse(_ json: String, dataByteCount: Int) throws(CairnError) -> SafeTensorsHeader {
        let bytes = Array(json.utf8)
        return try SafeTensorsHeader.parse(
            headerJSON: bytes.span, dataStart: 8 + bytes.count, dataByteCount: dataByteCount, file: "memory")
    }

    private func code(_ json: String, dataByteCount: Int) -> CairnError.Code? {
        do throws(CairnError) {
            _ = try parse(json, dataByteCount: dataByteCount)
            return nil
        } catch {
            return error.code
        }
    }

    @Test func aHeaderThatWasWrittenIsReadBackEqual() throws {
        let header = SafeTensorsHeader(
            entries: [
                .init(name: "é", scalarType: .f32, shape: [2, 3], byteRange: 0..<24),
                .init(name: "e\u{301}", scalarType: .f4, shape: [3, 2], byteRange: 24..<27),
                .init(name: "", scalarType: .u8, shape: [0], byteRange: 27..<27),
                .init(name: "quote\"\\\u{0}", scalarType: .bool, shape: .scalar, byteRange: 27..<28),
            ],
            metadata: [("b", "2"), ("a", "line\nbreak"), ("", "")])
        let bytes = try header.serialized(alignment: 64)
        #expect(bytes.count % 64 == 0)
        let storage = MemoryStorage()
        try storage.publish(bytes + [UInt8](repeating: 7, count: 28), as: "x")
        let read = try SafeTensorsHeader.read(from: storage.open("x"))
        #expect(read.entries.map { ExactString($0.name) } == header.entries.map { ExactString($0.name) })
        #expect(read.entries.map(\.byteRange) == header.entries.map(\.byteRange))
        #expect(read.entries.map(\.shape) == header.entries.map(\.shape))
        #expect(read.entries.map(\.scalarType) == header.entries.map(\.scalarType))
        #expect(read.metadata.map(\.key) == ["b", "a", ""])
        #expect(read.metadata("a") == "line\nbreak")
        #expect(read.dataStart == bytes.count)
    }

    @Test func aHeaderFillsAReservedPlace() throws {
        let header = SafeTensorsHeader(entries: [])
        #expect(try header.serialized(alignment: 8).count == 16)
        #expect(try header.serialized(alignment: 4096).count == 4096)
        #expect(try header.serialized(alignment: 8, minimumByteCount: 100).count == 104)
    }

    @Test func aHeaderThatCannotBeReadBackIsNotWritten() {
        let entry = SafeTensorsHeader.Entry(name: "a", scalarType: .u8, shape: [0], byteRange: 0..<0)
        var reserved = entry
        reserved.name = "__metadata__"
        #expect(throws: CairnError.self) {
            try SafeTensorsHeader(entries: [entry, entry]).serialized(alignment: 8)
        }
        #expect(throws: CairnError.self) { try SafeTensorsHeader(entries: [reserved]).serialized(alignment: 8) }
        #expect(throws: CairnError.self) {
            try SafeTensorsHeader(entries: [], metadata: [("a", ""), ("a", "")]).serialized(alignment: 8)
        }
        #expect(throws: CairnError.self) {
            try SafeTensorsHeader(entries: [entry]).serialized(alignment: 8, minimumByteCount: 100_000_009)
        }
    }

    @Test func anUnknownTypeIsUnsupportedAndNamed() throws {
        do throws(CairnError) {
            _ = try parse(#"{"w":{"dtype":"F128","shape":[1],"data_offsets":[0,16]}}"#, dataByteCount: 16)
            Issue.record("it was read")
        } catch {
            #expect(error.code == .unsupported)
            #expect(error.context.tensor == "w")
            #expect(error.message.contains("F128"))
        }
    }

    @Test func aFileThatEndsTooEarlyIsIncompleteAndOneThatGoesOnIsMalformed() {
        let json = #"{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#
        #expect(code(json, dataByteCount: 4) == nil)
        #expect(code(json, dataByteCount: 3) == .incomplete)
        #expect(code(json, dataByteCount: 5) == .malformed)
    }

    @Test func aLengthBeyondTheFileIsRefusedWithoutReadingIt() throws {
        let storage = MemoryStorage()
        for length in [100_000_000, 100_000_001, .max] as [UInt64] {
            let prefix = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) }
            try storage.publish(prefix + Array("{}".utf8), as: "x")
            #expect(throws: CairnError.self) { try SafeTensorsHeader.read(from: storage.open("x")) }
        }
    }

    @Test func twentyThousandTensorsAreRead() throws {
        let entries = (0..<20_000).map { index in
            SafeTensorsHeader.Entry(
                name: "model.layers.\(index / 9).self_attn.proj_\(index).weight", scalarType: .bf16, shape: [16, 4],
                byteRange: index * 128..<(index + 1) * 128)
        }
        let bytes = try SafeTensorsHeader(entries: entries).serialized(alignment: 8)
        let header = try SafeTensorsHeader.parse(
            headerJSON: bytes.span.extracting(8..<bytes.count), dataStart: bytes.count,
            dataByteCount: 20_000 * 128, file: "memory")
        #expect(header.entries == entries)
    }
}
