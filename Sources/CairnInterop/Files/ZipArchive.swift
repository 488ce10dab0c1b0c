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
        guard !record.entry.isDeflated || record.byteCount <= Self.greatestUnquestioned
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
