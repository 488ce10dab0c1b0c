package import CairnBase

/// The layout of a zip archive of stored records whose sizes are known before: every record has its place from the start, so
/// that bytes are written as they come and headers last.
///
/// Records begin at multiples of 64 where readers map them. Sizes and places beyond 4 GiB get their zip64 fields.
/// Source: PKWARE APPNOTE.TXT 6.3.10.
package struct ZipLayout {
    package struct Record: Sendable {
        package var name: String
        package var byteCount: Int
        package var comment: String
        /// Where its local header and its bytes begin.
        fileprivate(set) package var headerOffset = 0
        fileprivate(set) package var dataOffset = 0
        package var checksum: UInt32 = 0

        package init(name: String, byteCount: Int, comment: String = "") {
            self.name = name
            self.byteCount = byteCount
            self.comment = comment
        }
    }

    private static let alignment = 64
    private static let localHeaderByteCount = 30
    private static let zip64ByteCount = 20
    /// An extra field of this kind and any content is for alignment, as Android's tools write it.
    private static let paddingKind = 0xD935
    private static let limit = 0xFFFF_FFFF

    package private(set) var records: [Record]
    /// Where the directory begins.
    private var directoryOffset = 0

    /// - Throws: ``CairnError/Code/unsupported`` for names and comments longer than 65,535 bytes and archives of absurd
    ///   size.
    package init(_ records: [Record], file: String) throws(CairnError) {
        self.records = records
        var offset: Int? = 0
        for index in records.indices {
            let record = records[index]
            guard record.name.utf8.count <= 65_535, record.comment.utf8.count <= 65_535 else {
                throw CairnError(
                    .unsupported, "the name of a record of a zip archive, or what is remarked on it, is too long",
                    .init(file: file, tensor: String(record.name.prefix(64)), expected: "at most 65535 bytes"))
            }
            guard let start = offset,
                let least = start.adding(
                    checked: Self.localHeaderByteCount + record.name.utf8.count + Self.zip64ByteCount),
                // Room for an empty field of padding, then up to the next multiple.
                let data = (least + 4).roundedUp(toMultipleOf: Self.alignment)
            else { throw CairnError(.unsupported, "the archive would be too large", .init(file: file)) }
            self.records[index].headerOffset = start
            self.records[index].dataOffset = data
            offset = data.adding(checked: record.byteCount)
        }
        guard let offset else { throw CairnError(.unsupported, "the archive would be too large", .init(file: file)) }
        directoryOffset = offset
    }

    /// The size of the whole archive.
    package var byteCount: Int { directoryOffset + directory().count }

    /// Notes the checksum of a record, which must be done before its header is asked for.
    package mutating func setChecksum(_ checksum: UInt32, of index: Int) { records[index].checksum = checksum }

    /// The local header of a record: all bytes from its place up to its data.
    package func header(of index: Int) -> [UInt8] {
        let record = records[index]
        let isLarge = record.byteCount >= Self.limit
        var bytes = Bytes()
        bytes.add(0x0403_4B50, 4)
        bytes.add(isLarge ? 45 : 20, 2)
        addCommon(record, size: isLarge ? Self.limit : record.byteCount, to: &bytes)
        let nameEnd = Self.localHeaderByteCount + record.name.utf8.count
        bytes.add(record.dataOffset - record.headerOffset - nameEnd, 2)
        bytes.content += Array(record.name.utf8)
        if isLarge {
            bytes.add(1, 2)
            bytes.add(16, 2)
            bytes.add(record.byteCount, 8)
            bytes.add(record.byteCount, 8)
        }
        let padding = record.dataOffset - record.headerOffset - bytes.content.count - 4
        bytes.add(Self.paddingKind, 2)
        bytes.add(padding, 2)
        bytes.content += [UInt8](repeating: 0, count: padding)
        return bytes.content
    }

    /// The directory and the end record, and where they go.
    package var end: (offset: Int, bytes: [UInt8]) { (directoryOffset, directory()) }

    /// Flags, method, time, checksum, sizes and the length of the name: what both headers have in common.
    private func addCommon(_ record: Record, size: Int, to bytes: inout Bytes) {
        // Names are UTF-8.
        bytes.add(0x0800, 2)
        bytes.add(0, 2)
        // Midnight of the first day that zip knows, so that equal states give equal files.
        bytes.add(0, 2)
        bytes.add(0x0021, 2)
        bytes.add(Int(record.checksum), 4)
        bytes.add(size, 4)
        bytes.add(size, 4)
        bytes.add(record.name.utf8.count, 2)
    }

    private func directory() -> [UInt8] {
        var bytes = Bytes()
        for record in records {
            let isLarge = record.byteCount >= Self.limit
            let isFar = record.headerOffset >= Self.limit
            bytes.add(0x0201_4B50, 4)
            bytes.add(isLarge || isFar ? 45 : 20, 2)
            bytes.add(isLarge || isFar ? 45 : 20, 2)
            addCommon(record, size: isLarge ? Self.limit : record.byteCount, to: &bytes)
            let extra = (isLarge ? 16 : 0) + (isFar ? 8 : 0)
            bytes.add(extra == 0 ? 0 : extra + 4, 2)
            bytes.add(record.comment.utf8.count, 2)
            bytes.add(0, 2)
            bytes.add(0, 2)
            bytes.add(0, 4)
            bytes.add(isFar ? Self.limit : record.headerOffset, 4)
            bytes.content += Array(record.name.utf8)
            if extra > 0 {
                bytes.add(1, 2)
                bytes.add(extra, 2)
                if isLarge {
                    bytes.add(record.byteCount, 8)
                    bytes.add(record.byteCount, 8)
                }
                if isFar { bytes.add(record.headerOffset, 8) }
            }
            bytes.content += Array(record.comment.utf8)
        }
        let size = bytes.content.count
        if records.count >= 0xFFFF || directoryOffset >= Self.limit || size >= Self.limit {
            let recordOffset = directoryOffset + size
            bytes.add(0x0606_4B50, 4)
            bytes.add(44, 8)
            bytes.add(45, 2)
            bytes.add(45, 2)
            bytes.add(0, 8)
            bytes.add(records.count, 8)
            bytes.add(records.count, 8)
            bytes.add(size, 8)
            bytes.add(directoryOffset, 8)
            bytes.add(0x0706_4B50, 4)
            bytes.add(0, 4)
            bytes.add(recordOffset, 8)
            bytes.add(1, 4)
        }
        bytes.add(0x0605_4B50, 4)
        bytes.add(0, 4)
        bytes.add(min(records.count, 0xFFFF), 2)
        bytes.add(min(records.count, 0xFFFF), 2)
        bytes.add(min(size, Self.limit), 4)
        bytes.add(min(directoryOffset, Self.limit), 4)
        bytes.add(0, 2)
        return bytes.content
    }

    /// Little-endian numbers, one behind the other.
    private struct Bytes {
        var content: [UInt8] = []

        mutating func add(_ number: Int, _ byteCount: Int) {
            for index in 0..<byteCount { content.append(UInt8(truncatingIfNeeded: number >> (index * 8))) }
        }
    }
}
