import CairnBase
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite("Zip archives written as PyTorch does")
struct ZipWriterTests {
    /// Writes records to an archive at an offset of a file.
    private func archive(
        _ records: [(name: String, bytes: [UInt8])], at base: Int = 0, pieceByteCount: Int = Int.max
    ) throws -> [UInt8] {
        let storage = MemoryStorage()
        let file = try storage.create("archive", byteCount: nil)
        let writer = ZipWriter(file, at: base)
        for record in records {
            try writer.begin(record.name, byteCount: record.bytes.count)
            var start = 0
            while start < record.bytes.count {
                let end = start + min(pieceByteCount, record.bytes.count - start)
                try writer.append(record.bytes.span.bytes.extracting(start..<end))
                start = end
            }
        }
        let byteCount = try writer.finish()
        try file.finish(byteCount: base + byteCount)
        return Array(try storage.readAll("archive")[base...])
    }

    private func open(_ bytes: [UInt8]) throws -> ZipArchive {
        let storage = MemoryStorage()
        try storage.publish(bytes, as: "archive")
        return try ZipArchive(storage.open("archive"))
    }

    @Test(
        "A file of torch.save, read and written again, is the same to the last byte",
        arguments: ["torch/dtypes/dtypes.pt", "torch/views/views.pt"])
    func isPyTorchsOwnLayout(name: String) throws {
        let bytes = try Fixture.bytes(name)
        let source = try open(bytes)
        let records = try source.entries.map { ($0.name, try source.bytes($0.name, limit: 1 << 20)) }
        #expect(try archive(records) == bytes)
        #expect(try archive(records, at: 1234, pieceByteCount: 7) == bytes)
    }

    @Test("Records come back, however large and in whatever pieces, and begin at multiples of 64")
    func roundTrip() throws {
        var generator = SeededGenerator(seed: 7)
        let sizes = [0, 1, 63, 64, 65, 1000, 300_000, 262_144, 5, 700_001]
        let records = sizes.enumerated().map { index, size in
            (name: "records/\(index)-ü", bytes: (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) })
        }
        for pieceByteCount in [1 << 30, 100_000, 4097] {
            let archive = try open(archive(records, pieceByteCount: pieceByteCount))
            #expect(archive.entries.map(\.name) == records.map(\.name))
            for record in records {
                let found = try archive.record(record.name)
                #expect(found.dataOffset.isMultiple(of: 64))
                #expect(found.byteCount == 0 || found.entry.checksum != nil)
                #expect(try found.damage { _ in } == nil)
                #expect(try archive.bytes(record.name, limit: 1 << 20) == record.bytes)
            }
        }
    }

    @Test("Records of 4 GiB and beyond, and records behind them, have their sizes and places in zip64 fields")
    func zip64() throws {
        let file = SparseFile()
        let writer = ZipWriter(file)
        let large = 1 << 32
        let zeros = [UInt8](repeating: 0, count: 64 << 20)
        try writer.begin("large", byteCount: large)
        for _ in 0..<large / zeros.count { try writer.append(zeros.span.bytes) }
        try writer.add("after", [1, 2, 3])
        file.byteCount = try writer.finish()
        let archive = try ZipArchive(file)
        #expect(archive.entries.map(\.byteCount) == [large, 3])
        #expect(archive.entries.map(\.headerOffset).last ?? 0 > large)
        #expect(try archive.bytes("after", limit: 3) == [1, 2, 3])
        #expect(try archive.record("large").dataOffset.isMultiple(of: 64))
        #expect(try archive.record("after").dataOffset.isMultiple(of: 64))
        // What zlib says of 2^32 zero bytes.
        #expect(archive.entries.first?.checksum == 0xD202_EF8D)
    }

    @Test("A record that is not whole, has too much, or has another's name is refused")
    func misuse() throws {
        let file = try MemoryStorage().create("archive", byteCount: nil)
        let writer = ZipWriter(file)
        try writer.begin("a", byteCount: 2)
        #expect(throws: CairnError.self) { try writer.begin("b", byteCount: 1) }
        #expect(throws: CairnError.self) { try writer.append([1, 2, 3].span.bytes) }
        #expect(throws: CairnError.self) { _ = try writer.finish() }
        try writer.append(([1, 2] as [UInt8]).span.bytes)
        #expect(throws: CairnError.self) { try writer.begin("a", byteCount: 1) }
        #expect(throws: CairnError.self) { try writer.begin("", byteCount: 1) }
        #expect(throws: CairnError.self) { try writer.add(String(repeating: "x", count: 65_536), []) }
        #expect(try writer.finish() > 0)
    }
}
