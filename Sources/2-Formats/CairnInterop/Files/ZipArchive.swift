package import CairnBase
package import CairnStorage
import Synchronization

/// A zip archive that is read by its central directory. Nothing in it is trusted.
///
/// Sizes, checksums and places come from the central directory alone, as writers that stream leave them out of the
/// local headers. Refused: archives on several disks, encryption, methods other than "stored" and "deflate", names
/// that repeat or are not UTF-8, records that overlap or reach beyond the directory, and deflated records that claim to
/// expand by more than DEFLATE can. Source: PKWARE APPNOTE.TXT 6.3.10.
package final class ZipArchive: Sendable {
    /// One record of an archive.
    package struct Entry: Sendable, Hashable {
        /// Its path in the archive.
        package var name: String
        /// Whether it is compressed with DEFLATE; otherwise it is stored as it is.
        package var isDeflated: Bool
        /// Its size in the archive, in bytes.
        package var storedByteCount: Int
        /// Its size, in bytes.
        package var byteCount: Int
        /// Its CRC-32; `nil` where the writer left it out, which a zero says.
        package var checksum: UInt32?
        /// Where its local header begins, in bytes.
        package var headerOffset: Int
        /// Where the next record or the directory begins, in bytes.
        package var limit: Int
        /// What the directory remarks on it.
        package var comment = ""
    }

    /// The file.
    package let file: any StorageFile
    /// The records in the order of the directory.
    package let entries: [Entry]
    private let positions: [ExactString: Int]
    private let records = Mutex<[Int: ZipRecord]>([:])

    /// - Throws: ``CairnError/Code/incomplete`` when the file has no end record, as one that was cut short,
    ///   ``CairnError/Code/malformed`` for an archive that contradicts itself, ``CairnError/Code/unsupported``.
    package init(_ file: any StorageFile) throws(CairnError) {
        self.file = file
        entries = try ZipDirectory(of: file).entries()
        var positions: [ExactString: Int] = [:]
        for (index, entry) in entries.enumerated() {
            guard positions.updateValue(index, forKey: ExactString(entry.name)) == nil else {
                throw CairnError(
                    .malformed, "the zip archive has two records of one name",
                    .init(file: file.key, found: entry.name.debugDescription))
            }
        }
        self.positions = positions
    }

    /// The names in the first archive of a file, whatever follows it.
    package static func names(atBeginningOf file: any StorageFile) throws(CairnError) -> [String] {
        let length = try TorchSaves.zipLength(of: file)
        return try ZipArchive(FileWindow(file, offset: 0, byteCount: length)).entries.map(\.name)
    }

    /// Whether there is a record of this name.
    package func contains(_ name: String) -> Bool { positions[ExactString(name)] != nil }

    /// A record, opened once.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when there is none of this name.
    package func record(_ name: String) throws(CairnError) -> ZipRecord {
        guard let position = positions[ExactString(name)] else {
            throw CairnError(
                .incomplete, "the zip archive lacks a record",
                .init(file: file.key, expected: name, advice: "the file is damaged; take another copy"))
        }
        if let record = records.withLock({ $0[position] }) { return record }
        let record = try ZipRecord(entries[position], of: file)
        return records.withLock { records in
            let first = records[position] ?? record
            records[position] = first
            return first
        }
    }

    /// A compressed record of more bytes than this may not expand out of proportion.
    private static let greatestUnquestioned = 16 << 20
    private static let greatestExpansion = 64

    /// All bytes of a record, checked.
    ///
    /// - Parameter limit: The most bytes that the record may have.
    package func bytes(_ name: String, limit: Int) throws(CairnError) -> [UInt8] {
        let record = try record(name)
        guard record.byteCount <= limit else {
            throw CairnError(
                .unsupported, "a record of the zip archive is larger than it may be",
                .init(file: file.key, expected: "at most \(limit) bytes", found: "\(name) of \(record.byteCount)"))
        }
        let stored = record.entry.storedByteCount
        guard
            !record.entry.isDeflated || record.byteCount <= Self.greatestUnquestioned
                || record.byteCount / Self.greatestExpansion <= stored
        else {
            throw CairnError(
                .unsupported, "a record of the zip archive expands out of proportion",
                .init(
                    file: file.key, expected: "at most \(Self.greatestExpansion) times what is stored",
                    found: "\(name) of \(record.byteCount) bytes from \(stored)"))
        }
        return try record.bytes(in: 0..<record.byteCount)
    }
}

/// A record of a zip archive, as a file of its own.
///
/// Its checksum is verified when all of it has been read, at once or in pieces; the read that completes it throws
/// ``CairnError/Code/corrupted`` when the checksum differs. A small deflated record is expanded, and verified, at the
/// first read; a large one is expanded as it is read, a little more than is asked for where that jumps.
package final class ZipRecord: StorageFile {
    /// The name of the archive's file.
    package let key: String
    /// What the directory says of the record.
    package let entry: ZipArchive.Entry
    /// Where its bytes begin in the archive.
    package let dataOffset: Int
    package var byteCount: Int { entry.byteCount }

    private let file: any StorageFile
    /// What expands a record that is too large to be kept.
    private let inflated: InflatedFile?

    /// The most bytes of an expanded record that are kept in memory.
    private static let greatestHeld = 4 << 20

    private struct State {
        var progress: ChecksumProgress
        var isVerified: Bool
        var expanded: [UInt8]?
    }

    private let state: Mutex<State>

    init(_ entry: ZipArchive.Entry, of file: any StorageFile) throws(CairnError) {
        key = file.key
        self.entry = entry
        self.file = file
        let header = ByteReader(bytes: try file.bytes(in: entry.headerOffset..<entry.headerOffset + 30))
        guard header.u32(at: 0) == 0x0403_4B50, let nameLength = header.u16(at: 26),
            let extraLength = header.u16(at: 28)
        else {
            throw CairnError(
                .malformed, "there is no zip record where the directory says",
                .init(file: key, offset: entry.headerOffset, expected: entry.name.debugDescription))
        }
        dataOffset = entry.headerOffset + 30 + nameLength + extraLength
        guard dataOffset + entry.storedByteCount <= entry.limit else {
            throw CairnError(
                .malformed, "a zip record overlaps another or the directory",
                .init(file: key, offset: entry.headerOffset, found: entry.name.debugDescription))
        }
        inflated =
            entry.isDeflated && entry.byteCount > Self.greatestHeld
            ? InflatedFile(
                try FileWindow(file, offset: dataOffset, byteCount: entry.storedByteCount), byteCount: entry.byteCount)
            : nil
        state = Mutex(
            State(
                progress: ChecksumProgress(byteCount: entry.byteCount),
                isVerified: entry.checksum == nil || entry.byteCount == 0))
    }

    package func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a record of the zip archive ends too early",
                .init(
                    file: key, offset: dataOffset, expected: "\(offset) + \(destination.byteCount) bytes",
                    found: "\(entry.name) of \(byteCount)"))
        }
        if let inflated {
            try inflated.read(at: offset, into: &destination)
            try compare(inflated.checksum)
            return
        }
        if entry.isDeflated {
            let bytes = try expanded()
            bytes.withUnsafeBytes { source in
                destination.withUnsafeMutableBytes { target in
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + target.count]))
                }
            }
            if offset + destination.byteCount == byteCount { release() }
            return
        }
        try file.read(at: dataOffset + offset, into: &destination)
        guard state.withLock({ !$0.isVerified }) else { return }
        let range = offset..<offset + destination.byteCount
        let checksum = CRC32.checksum(destination.bytes)
        let whole = state.withLock { $0.progress.add(range, checksum) }
        try compare(whole)
    }

    /// Gives back the memory of what is expanded.
    package func release() {
        inflated?.release()
        state.withLock { $0.expanded = nil }
    }

    /// Takes note of the checksum of the whole record once it is known.
    private func compare(_ whole: UInt32?) throws(CairnError) {
        guard let whole, state.withLock({ !$0.isVerified }) else { return }
        guard whole == entry.checksum else {
            state.withLock { $0.progress = ChecksumProgress(byteCount: byteCount) }
            throw mismatch(whole)
        }
        state.withLock { $0.isVerified = true }
    }

    package func map() throws(CairnError) -> MemoryMapping? { nil }

    /// Reads all of the record, whatever of it was read before, and compares its checksum.
    ///
    /// - Parameter progress: Called with the number of bytes just read; throwing stops.
    /// - Returns: What is wrong, `nil` for nothing.
    /// - Throws: What `progress` throws.
    package func damage(progress: (Int) throws -> Void) throws -> CairnError? {
        defer { release() }
        let step = 4 << 20
        var checksum: UInt32 = 0
        for begin in stride(from: 0, to: byteCount, by: step) {
            let end = min(begin + step, byteCount)
            let bytes: [UInt8]
            do throws(CairnError) {
                bytes = try plain(begin..<end)
            } catch {
                return error
            }
            checksum = CRC32.combine(checksum, CRC32.checksum(bytes.span.bytes), secondByteCount: bytes.count)
            try progress(bytes.count)
        }
        guard byteCount > 0, let expected = entry.checksum, expected != checksum else { return nil }
        return mismatch(checksum)
    }

    /// Bytes of the record, whatever their checksum.
    private func plain(_ range: Range<Int>) throws(CairnError) -> [UInt8] {
        if let inflated { return try inflated.bytes(in: range) }
        if entry.isDeflated { return Array(try expanded()[range]) }
        return try file.bytes(in: dataOffset + range.lowerBound..<dataOffset + range.upperBound)
    }

    private func expanded() throws(CairnError) -> [UInt8] {
        if let bytes = state.withLock({ $0.expanded }) { return bytes }
        let source = try file.bytes(in: dataOffset..<dataOffset + entry.storedByteCount)
        guard let bytes = Inflation.expand(source, byteCount: byteCount) else {
            throw CairnError(
                .corrupted, "a compressed record of the zip archive is damaged",
                .init(file: key, offset: dataOffset, found: entry.name.debugDescription))
        }
        let checksum = CRC32.checksum(bytes.span.bytes)
        if let expected = entry.checksum, expected != checksum { throw mismatch(checksum) }
        state.withLock { $0.expanded = bytes }
        return bytes
    }

    private func mismatch(_ found: UInt32) -> CairnError {
        func text(_ checksum: UInt32) -> String {
            let digits = String(checksum, radix: 16)
            return "0x" + String(repeating: "0", count: 8 - digits.utf8.count) + digits
        }
        return CairnError(
            .corrupted, "the CRC-32 of the record \(entry.name.debugDescription) differs: its bytes were changed",
            .init(
                file: key, offset: dataOffset, expected: entry.checksum.map(text), found: text(found),
                advice: "take another copy"))
    }
}
