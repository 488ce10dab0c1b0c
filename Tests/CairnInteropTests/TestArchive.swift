import CZlib

/// A zip archive that need not be true to what it holds.
struct TestArchive {
    struct Record {
        var name: String
        /// What is stored of it.
        var stored: [UInt8]
        /// 0 for stored, 8 for deflated.
        var method = 0
        /// The size that the directory claims.
        var byteCount: Int
        /// The stored size that the directory claims.
        var storedByteCount: Int
        /// Zero says that there is none.
        var checksum: Int
        /// Where the directory says that it begins, if that is not where it does.
        var headerOffset: Int?
        /// The sizes are in a zip64 field, as these numbers.
        var wideSizes: [UInt64]?
        var comment = ""

        init(_ name: String, _ bytes: [UInt8]) {
            self.name = name
            stored = bytes
            byteCount = bytes.count
            storedByteCount = bytes.count
            checksum = Int(crc32(0, bytes, UInt32(bytes.count)))
        }

        /// A compressed record of `bytes` repeated, without a checksum.
        init(_ name: String, deflating bytes: [UInt8], times: Int = 1) {
            self.init(name, TestArchive.deflated(bytes, times: times))
            method = 8
            byteCount = bytes.count * times
            checksum = 0
        }
    }

    var records: [Record]
    /// The number of records that the end claims.
    var count: Int?
    /// The zip64 end record that stands before the end: number of records, size and place of the directory.
    var wideEnd: [UInt64]?

    init(_ records: [Record]) { self.records = records }

    init(_ records: [(name: String, bytes: [UInt8])]) { self.records = records.map { Record($0.name, $0.bytes) } }

    var bytes: [UInt8] {
        var file: [UInt8] = []
        var directory: [UInt8] = []
        for record in records {
            let extra = (record.wideSizes ?? []).flatMap { Self.number(Int(truncatingIfNeeded: $0), 8) }
            let field = extra.isEmpty ? [] : Self.number(1, 2) + Self.number(extra.count, 2) + extra
            let size = extra.isEmpty ? record.byteCount : 0xFFFF_FFFF
            let storedSize = extra.count < 16 ? record.storedByteCount : 0xFFFF_FFFF
            let common =
                Self.number(0, 4) + Self.number(record.method, 2) + Self.number(0, 4)
                + Self.number(record.checksum, 4) + Self.number(storedSize, 4) + Self.number(size, 4)
                + Self.number(record.name.utf8.count, 2)
            directory +=
                Self.number(0x0201_4B50, 4) + Self.number(0, 2) + common + Self.number(field.count, 2)
                + Self.number(record.comment.utf8.count, 2) + Self.number(0, 2) + Self.number(0, 2)
                + Self.number(0, 4) + Self.number(record.headerOffset ?? file.count, 4) + Array(record.name.utf8)
                + field + Array(record.comment.utf8)
            file += Self.number(0x0403_4B50, 4) + common + Self.number(0, 2) + Array(record.name.utf8) + record.stored
        }
        let place = file.count
        file += directory
        if let wideEnd {
            let start = file.count
            let counts = [wideEnd[0], wideEnd[0], wideEnd[1], wideEnd[2]]
            file +=
                Self.number(0x0606_4B50, 4) + Self.number(44, 8) + Self.number(0, 4) + Self.number(0, 8)
                + counts.flatMap { Self.number(Int(truncatingIfNeeded: $0), 8) }
            file += Self.number(0x0706_4B50, 4) + Self.number(0, 4) + Self.number(start, 8) + Self.number(1, 4)
        }
        let claimed = count ?? records.count
        return file + Self.number(0x0605_4B50, 4) + Self.number(0, 4) + Self.number(claimed, 2)
            + Self.number(claimed, 2) + Self.number(directory.count, 4) + Self.number(place, 4) + Self.number(0, 2)
    }

    private static func number(_ value: Int, _ byteCount: Int) -> [UInt8] {
        (0..<byteCount).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// Raw DEFLATE data of `bytes` repeated.
    static func deflated(_ bytes: [UInt8], times: Int) -> [UInt8] {
        var stream = z_stream()
        let size = Int32(MemoryLayout<z_stream>.size)
        precondition(deflateInit2_(&stream, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, size) == Z_OK)
        defer { deflateEnd(&stream) }
        var input = bytes
        var result: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 1 << 16)
        for turn in 0..<times {
            let flush = turn == times - 1 ? Z_FINISH : Z_NO_FLUSH
            input.withUnsafeMutableBufferPointer { input in
                stream.next_in = input.baseAddress
                stream.avail_in = UInt32(input.count)
                repeat {
                    let count = block.count
                    block.withUnsafeMutableBufferPointer { block in
                        stream.next_out = block.baseAddress
                        stream.avail_out = UInt32(count)
                        _ = deflate(&stream, flush)
                    }
                    result += block[..<(count - Int(stream.avail_out))]
                } while stream.avail_out == 0
            }
        }
        return result
    }
}
