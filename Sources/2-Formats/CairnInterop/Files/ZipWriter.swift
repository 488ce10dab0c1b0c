package import CairnBase
package import CairnStorage

/// Writes a zip archive as `torch.save` does, record by record, with bounded memory.
///
/// Everything is stored as it is, and every record's bytes begin at a multiple of 64 in the archive. As in PyTorch's own
/// files the sizes and the checksum of a record follow it and stand in the directory, not in its local header, there is
/// always a zip64 end record, and the padding is an extra field "FB". PyTorch can compute from such a layout where
/// records are without reading their headers (`torch.serialization.config.load.calculate_storage_offsets`).
/// Sources: PKWARE APPNOTE.TXT 6.3.10; PyTorch's `caffe2/serialize/inline_container.cc` and miniz 3.0.2.
package final class ZipWriter {
    private static let alignment = 64
    /// What does not fit into 32 bits, or is this number, stands in a zip64 field.
    private static let greatest32 = 0xFFFF_FFFF
    private static let localHeaderByteCount = 30
    /// How many bytes are gathered before they are written.
    private static let bufferByteCount = 1 << 18
    /// The name is UTF-8; a data descriptor follows, unless the record is empty.
    private static func flags(byteCount: Int) -> UInt16 { byteCount == 0 ? 0x0800 : 0x0808 }

    private struct Record {
        var name: [UInt8]
        var headerOffset: Int
        var byteCount: Int
        var checksum: UInt32 = 0
    }

    private let file: any StorageWriter
    private let base: Int
    private var records: [Record] = []
    private var names: Set<ExactString> = []
    /// The bytes that the record begun last still lacks.
    private var missing = 0
    private var buffer: [UInt8] = []
    /// Where the buffer's bytes go in the archive.
    private var bufferOffset = 0

    /// How many bytes the archive has so far.
    package var byteCount: Int { bufferOffset + buffer.count }

    /// - Parameters:
    ///   - file: Gets the archive's bytes, in order.
    ///   - base: Where the archive begins in the file; archives of `torch.distributed.checkpoint` follow each other.
    package init(_ file: any StorageWriter, at base: Int = 0) {
        self.file = file
        self.base = base
        buffer.reserveCapacity(Self.bufferByteCount)
    }

    /// Adds a record.
    package func add(_ name: String, _ bytes: [UInt8]) throws(CairnError) {
        try begin(name, byteCount: bytes.count)
        try append(bytes.span.bytes)
    }

    /// Begins a record, whose bytes ``append(_:)`` then brings.
    ///
    /// - Returns: Where its bytes begin in the archive.
    /// - Throws: ``CairnError/Code/invalidArgument`` for a name that was there or is too long, or when the last record
    ///   is not whole.
    @discardableResult
    package func begin(_ name: String, byteCount: Int) throws(CairnError) -> Int {
        let utf8 = Array(name.utf8)
        guard missing == 0 else { throw refusal("the record before lacks bytes", found: "\(missing)") }
        guard byteCount >= 0, !utf8.isEmpty, utf8.count <= UInt16.max, names.insert(ExactString(name)).inserted else {
            throw refusal("no record of a zip archive can have this name or size", found: name.debugDescription)
        }
        let record = Record(name: utf8, headerOffset: self.byteCount, byteCount: byteCount)
        var extra = Self.zip64(record, sizeIn: byteCount)
        let start = record.headerOffset + Self.localHeaderByteCount + utf8.count + extra.count + 4
        let padding = (Self.alignment - start % Self.alignment) % Self.alignment
        extra += Array("FB".utf8)
        extra.append(littleEndian: UInt16(padding))
        extra += [UInt8](repeating: UInt8(ascii: "Z"), count: padding)
        var header: [UInt8] = []
        header.append(littleEndian: UInt32(0x0403_4B50))
        header.append(littleEndian: UInt16(0))
        header.append(littleEndian: Self.flags(byteCount: byteCount))
        // Method, time, date, checksum and sizes.
        header += [UInt8](repeating: 0, count: 18)
        header.append(littleEndian: UInt16(utf8.count))
        header.append(littleEndian: UInt16(extra.count))
        records.append(record)
        missing = byteCount
        try put((header + utf8 + extra).span.bytes)
        return self.byteCount
    }

    /// Appends the next bytes of the record begun last.
    package func append(_ bytes: RawSpan) throws(CairnError) {
        guard bytes.byteCount > 0 else { return }
        guard bytes.byteCount <= missing, let last = records.indices.last else {
            throw refusal("a record gets more bytes than it has", found: "\(bytes.byteCount - missing) too many")
        }
        records[last].checksum = CRC32.combine(
            records[last].checksum, CRC32.checksum(bytes), secondByteCount: bytes.byteCount)
        missing -= bytes.byteCount
        try put(bytes)
        if missing == 0 { try endRecord(records[last]) }
    }

    /// Writes what follows a record that is not empty.
    private func endRecord(_ record: Record) throws(CairnError) {
        var descriptor: [UInt8] = []
        descriptor.append(littleEndian: UInt32(0x0807_4B50))
        descriptor.append(littleEndian: record.checksum)
        if Self.zip64(record, sizeIn: record.byteCount).isEmpty {
            descriptor.append(littleEndian: UInt32(record.byteCount))
            descriptor.append(littleEndian: UInt32(record.byteCount))
        } else {
            descriptor.append(littleEndian: UInt64(record.byteCount))
            descriptor.append(littleEndian: UInt64(record.byteCount))
        }
        try put(descriptor.span.bytes)
    }

    /// Writes the directory. The file itself is not finished: more may follow in it.
    ///
    /// - Returns: The archive's size in bytes.
    package func finish() throws(CairnError) -> Int {
        guard missing == 0 else { throw refusal("the last record lacks bytes", found: "\(missing)") }
        let start = byteCount
        for record in records { try put(Self.directoryEntry(record).span.bytes) }
        let size = byteCount - start
        try put(Self.end(count: records.count, offset: start, byteCount: size).span.bytes)
        try flush()
        return byteCount
    }

    private static func directoryEntry(_ record: Record) -> [UInt8] {
        let extra = zip64(record, sizeIn: record.byteCount)
        let size = UInt32(min(record.byteCount, greatest32))
        var entry: [UInt8] = []
        entry.append(littleEndian: UInt32(0x0201_4B50))
        // Versions made by and needed, as PyTorch has them.
        entry.append(littleEndian: UInt32(0))
        entry.append(littleEndian: flags(byteCount: record.byteCount))
        // Method, time and date.
        entry += [UInt8](repeating: 0, count: 6)
        entry.append(littleEndian: record.checksum)
        entry.append(littleEndian: size)
        entry.append(littleEndian: size)
        entry.append(littleEndian: UInt16(record.name.count))
        entry.append(littleEndian: UInt16(extra.count))
        // Comment, disk and attributes.
        entry += [UInt8](repeating: 0, count: 10)
        entry.append(littleEndian: UInt32(min(record.headerOffset, greatest32)))
        return entry + record.name + extra
    }

    /// The zip64 field: what of size, stored size and offset needs it. PyTorch has the offset in local headers too.
    private static func zip64(_ record: Record, sizeIn byteCount: Int) -> [UInt8] {
        var numbers: [UInt8] = []
        if byteCount >= greatest32 {
            numbers.append(littleEndian: UInt64(byteCount))
            numbers.append(littleEndian: UInt64(byteCount))
        }
        if record.headerOffset >= greatest32 { numbers.append(littleEndian: UInt64(record.headerOffset)) }
        guard !numbers.isEmpty else { return [] }
        var field: [UInt8] = []
        field.append(littleEndian: UInt16(1))
        field.append(littleEndian: UInt16(numbers.count))
        return field + numbers
    }

    /// The zip64 end record, its locator, and the old end record.
    private static func end(count: Int, offset: Int, byteCount: Int) -> [UInt8] {
        var end: [UInt8] = []
        end.append(littleEndian: UInt32(0x0606_4B50))
        end.append(littleEndian: UInt64(44))
        // Made by version 3.0 on Unix, needs 4.5.
        end.append(littleEndian: UInt16(0x031E))
        end.append(littleEndian: UInt16(0x002D))
        end.append(littleEndian: UInt64(0))
        for number in [count, count, byteCount, offset] { end.append(littleEndian: UInt64(number)) }
        end.append(littleEndian: UInt32(0x0706_4B50))
        end.append(littleEndian: UInt32(0))
        end.append(littleEndian: UInt64(offset + byteCount))
        end.append(littleEndian: UInt32(1))
        end.append(littleEndian: UInt32(0x0605_4B50))
        end.append(littleEndian: UInt32(0))
        end.append(littleEndian: UInt16(min(count, 0xFFFF)))
        end.append(littleEndian: UInt16(min(count, 0xFFFF)))
        end.append(littleEndian: UInt32(min(byteCount, greatest32)))
        end.append(littleEndian: UInt32(min(offset, greatest32)))
        end.append(littleEndian: UInt16(0))
        return end
    }

    private func put(_ bytes: RawSpan) throws(CairnError) {
        if buffer.count + bytes.byteCount > Self.bufferByteCount { try flush() }
        guard bytes.byteCount < Self.bufferByteCount else {
            try file.write(bytes, at: base + bufferOffset)
            bufferOffset += bytes.byteCount
            return
        }
        bytes.withUnsafeBytes { buffer.append(contentsOf: $0) }
    }

    private func flush() throws(CairnError) {
        guard !buffer.isEmpty else { return }
        var bytes: [UInt8] = []
        swap(&bytes, &buffer)
        try file.write(bytes.span.bytes, at: base + bufferOffset)
        bufferOffset += bytes.count
        bytes.removeAll(keepingCapacity: true)
        swap(&bytes, &buffer)
    }

    private func refusal(_ message: String, found: String) -> CairnError {
        CairnError(.invalidArgument, message, .init(file: file.key, found: found))
    }
}
