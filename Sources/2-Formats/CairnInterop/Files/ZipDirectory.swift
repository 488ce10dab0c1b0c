import CairnBase
import CairnStorage

/// The end of a zip archive: where its records are.
struct ZipDirectory {
    private static let endByteCount = 22
    /// What stands before the end record of an archive that is large, or of a writer that always has it.
    private static let locatorByteCount = 20
    private static let largeEndByteCount = 56
    private static let longestComment = 65_535
    private static let leastEntryByteCount = 46
    private static let localHeaderByteCount = 30
    /// The most bytes of directory that are read.
    private static let greatestByteCount = 1 << 30
    /// What is read of the end at first: enough for an archive of a few records.
    private static let firstTail = 4096

    private let file: any StorageFile
    /// The last bytes of the file and where they begin.
    private var tail: [UInt8] = []
    private var tailOffset = 0
    private var entryCount = 0
    private var offset = 0
    private var byteCount = 0

    init(of file: any StorageFile) throws(CairnError) {
        self.file = file
        var found: Int?
        for length in [Self.firstTail, Self.endByteCount + Self.longestComment] where found == nil {
            guard tail.count < min(length, file.byteCount) else { break }
            tailOffset = max(0, file.byteCount - length)
            tail = try file.bytes(in: tailOffset..<file.byteCount)
            found = endRecord()
        }
        guard let found else {
            if let end = ZipEnd(of: file, from: 0)?.end {
                throw CairnError(
                    .malformed, "bytes follow the end of the zip archive",
                    .init(
                        file: file.key, offset: end, found: "\(file.byteCount - end) bytes",
                        advice: "the archive itself is the file's first \(end) bytes"))
            }
            throw CairnError(
                .incomplete, "no zip archive: there is no end record",
                .init(
                    file: file.key, found: "\(file.byteCount) bytes",
                    advice: "the file was probably cut short: take another copy"))
        }
        try readEnd(at: found)
    }

    /// Where the end record begins in the tail: the last place whose comment ends with the file.
    private func endRecord() -> Int? {
        let reader = ByteReader(bytes: tail)
        var position = tail.count - Self.endByteCount
        while position >= 0 {
            if tail[position] == 0x50, reader.u32(at: position) == 0x0605_4B50,
                reader.u16(at: position + 20) == tail.count - position - Self.endByteCount
            {
                return position
            }
            position -= 1
        }
        return nil
    }

    private mutating func readEnd(at position: Int) throws(CairnError) {
        let reader = ByteReader(bytes: tail)
        var end = tailOffset + position
        var disks = [reader.u16(at: position + 4), reader.u16(at: position + 6)]
        var counts = [reader.u16(at: position + 8), reader.u16(at: position + 10)]
        var location = [reader.u32(at: position + 12), reader.u32(at: position + 16)]
        if reader.u32(at: position - 20) == 0x0706_4B50 {
            let before = end - Self.locatorByteCount - Self.largeEndByteCount
            if let named = reader.u64(at: position - 12), before > named,
                try ByteReader(bytes: file.bytes(in: before..<before + 4)).u32(at: 0) == 0x0606_4B50
            {
                throw preceded(by: before - named)
            }
            guard let recordOffset = reader.u64(at: position - 12), recordOffset < end else {
                throw malformed("the offset of the zip64 end record is out of range")
            }
            let record = ByteReader(bytes: try file.bytes(in: recordOffset..<min(end, recordOffset + 56)))
            guard record.u32(at: 0) == 0x0606_4B50, record.bytes.count == 56 else {
                throw malformed("there is no zip64 end record where it should be", at: recordOffset)
            }
            end = recordOffset
            disks = [record.u32(at: 16), record.u32(at: 20)]
            counts = [record.u64(at: 24), record.u64(at: 32)]
            location = [record.u64(at: 40), record.u64(at: 48)]
        }
        guard disks.allSatisfy({ $0 == 0 }), counts[0] == counts[1] else {
            throw CairnError(.unsupported, "the zip archive is spread over several disks", .init(file: file.key))
        }
        guard let entryCount = counts[0], let byteCount = location[0], let offset = location[1],
            offset.adding(checked: byteCount).map({ $0 <= end }) == true, byteCount <= Self.greatestByteCount,
            entryCount <= byteCount / Self.leastEntryByteCount
        else { throw malformed("the offset of the zip directory is out of range") }
        // The directory ends where the end record begins; where it is elsewhere, the archive is behind something, and
        // what stands at the place that it names belongs to another one.
        if end - byteCount > offset, try isDirectory(at: end - byteCount, entryCount) {
            throw preceded(by: end - byteCount - offset)
        }
        self.entryCount = entryCount
        self.byteCount = byteCount
        self.offset = offset
    }

    private func preceded(by byteCount: Int) -> CairnError {
        CairnError(
            .unsupported, "something is before the zip archive in the file, as another one",
            .init(
                file: file.key, offset: byteCount, expected: "one archive, from the file's beginning",
                advice: "take them apart"))
    }

    private func isDirectory(at offset: Int, _ entryCount: Int) throws(CairnError) -> Bool {
        guard entryCount > 0 else { return true }
        return try ByteReader(bytes: file.bytes(in: offset..<offset + 4)).u32(at: 0) == 0x0201_4B50
    }

    /// Reads the directory.
    func entries() throws(CairnError) -> [ZipArchive.Entry] {
        let bytes =
            offset >= tailOffset
            ? Array(tail[(offset - tailOffset)..<(offset - tailOffset + byteCount)])
            : try file.bytes(in: offset..<offset + byteCount)
        let reader = ByteReader(bytes: bytes)
        var entries: [ZipArchive.Entry] = []
        entries.reserveCapacity(entryCount)
        var position = 0
        for _ in 0..<entryCount {
            guard reader.u32(at: position) == 0x0201_4B50, let nameLength = reader.u16(at: position + 28),
                let extraLength = reader.u16(at: position + 30), let commentLength = reader.u16(at: position + 32),
                position + Self.leastEntryByteCount + nameLength + extraLength + commentLength <= bytes.count
            else { throw malformed("the zip directory is damaged", at: offset + position) }
            var entry = try entry(reader, position, nameLength: nameLength, extraLength: extraLength)
            if commentLength > 0 {
                let start = position + Self.leastEntryByteCount + nameLength + extraLength
                entry.comment = String(decoding: bytes[start..<start + commentLength], as: UTF8.self)
            }
            entries.append(entry)
            position += Self.leastEntryByteCount + nameLength + extraLength + commentLength
        }
        try limit(&entries)
        return entries
    }

    private func entry(
        _ reader: ByteReader, _ position: Int, nameLength: Int, extraLength: Int
    ) throws(CairnError) -> ZipArchive.Entry {
        let nameStart = position + Self.leastEntryByteCount
        guard let name = String(validating: reader.bytes[nameStart..<nameStart + nameLength], as: UTF8.self) else {
            throw malformed("the name of a zip record is not UTF-8", at: offset + position)
        }
        guard let flags = reader.u16(at: position + 8), let method = reader.u16(at: position + 10),
            let checksum = reader.integer(at: position + 16, byteCount: 4), flags & 0x2041 == 0,
            method == 0 || method == 8
        else {
            throw CairnError(
                .unsupported, "a zip record is encrypted or compressed in an unknown way",
                .init(file: file.key, found: name.debugDescription))
        }
        // Size, stored size and offset; each that is all ones stands in the zip64 field instead, in this order.
        var numbers = [reader.u32(at: position + 24), reader.u32(at: position + 20), reader.u32(at: position + 42)]
        var extra = nameStart + nameLength
        let extraEnd = extra + extraLength
        while numbers.contains(0xFFFF_FFFF), extra + 4 <= extraEnd, let length = reader.u16(at: extra + 2) {
            if reader.u16(at: extra) == 1 {
                var field = extra + 4
                for index in numbers.indices where numbers[index] == 0xFFFF_FFFF && field + 8 <= extra + 4 + length {
                    numbers[index] = reader.u64(at: field)
                    field += 8
                }
                break
            }
            extra += 4 + length
        }
        guard let byteCount = numbers[0], let storedByteCount = numbers[1], let headerOffset = numbers[2] else {
            throw malformed("the size of a zip record is out of range", at: offset + position, name)
        }
        // DEFLATE expands by at most 1032.
        guard method == 0 ? byteCount == storedByteCount : byteCount / 1032 <= storedByteCount else {
            throw malformed("the sizes of a zip record contradict each other", at: offset + position, name)
        }
        return ZipArchive.Entry(
            name: name, isDeflated: method == 8, storedByteCount: storedByteCount, byteCount: byteCount,
            checksum: checksum == 0 ? nil : UInt32(checksum), headerOffset: headerOffset, limit: 0)
    }

    /// Throws unless the records fit between each other and before the directory.
    private func limit(_ entries: inout [ZipArchive.Entry]) throws(CairnError) {
        var limit = offset
        for index in entries.indices.sorted(by: { entries[$0].headerOffset > entries[$1].headerOffset }) {
            let entry = entries[index]
            let least = Self.localHeaderByteCount + entry.name.utf8.count
            guard let data = entry.headerOffset.adding(checked: least),
                let end = data.adding(checked: entry.storedByteCount), end <= limit
            else {
                throw malformed("a zip record overlaps another or the directory", at: entry.headerOffset, entry.name)
            }
            entries[index].limit = limit
            limit = entry.headerOffset
        }
    }

    private func malformed(_ message: String, at offset: Int? = nil, _ name: String? = nil) -> CairnError {
        CairnError(.malformed, message, .init(file: file.key, offset: offset, found: name?.debugDescription))
    }
}

/// Where a zip archive ends that begins at a given place of a file, whatever follows it.
struct ZipEnd {
    /// The first byte behind the archive.
    let end: Int

    private static let step = 4 << 20
    /// How much is looked through: the beginning and the end of a large file.
    private static let beginningByteCount = 2 << 30
    private static let endByteCount = 64 << 20
    private static let recordByteCount = 22

    /// Looks for the first end record whose directory says that the archive begins there. `nil` if there is none.
    init?(of file: any StorageFile, from begin: Int) {
        var position = begin
        while position <= file.byteCount - Self.recordByteCount {
            let last = min(file.byteCount, position + Self.step)
            guard let bytes = try? file.bytes(in: position..<last) else { return nil }
            var index = 0
            while let found = bytes[index...].firstIndex(of: 0x50) {
                if let end = Self.end(of: file, bytes, at: found, offset: position, begin: begin) {
                    self.end = end
                    return
                }
                index = found + 1
            }
            guard last < file.byteCount else { return nil }
            position = last - 3
            if position - begin > Self.beginningByteCount {
                position = max(position, file.byteCount - Self.endByteCount)
            }
        }
        return nil
    }

    private static func end(
        of file: any StorageFile, _ bytes: [UInt8], at index: Int, offset: Int, begin: Int
    ) -> Int? {
        guard index + 4 <= bytes.count, bytes[index + 1] == 0x4B, bytes[index + 2] == 5, bytes[index + 3] == 6 else {
            return nil
        }
        let recordStart = offset + index
        guard recordStart + recordByteCount <= file.byteCount,
            let record = (try? file.bytes(in: recordStart..<recordStart + recordByteCount)).map({ ByteReader(bytes: $0) }),
            let comment = record.u16(at: 20), recordStart + recordByteCount + comment <= file.byteCount,
            var size = record.u32(at: 12), var directory = record.u32(at: 16)
        else { return nil }
        var directoryEnd = recordStart
        if recordStart - begin >= 76,
            let locator = (try? file.bytes(in: recordStart - 20..<recordStart)).map({ ByteReader(bytes: $0) }),
            locator.u32(at: 0) == 0x0706_4B50, let relative = locator.u64(at: 8),
            let start = begin.adding(checked: relative), start <= recordStart - 76,
            let large = (try? file.bytes(in: start..<start + 56)).map({ ByteReader(bytes: $0) }),
            large.u32(at: 0) == 0x0606_4B50, let largeSize = large.u64(at: 40), let largeDirectory = large.u64(at: 48)
        {
            (size, directory, directoryEnd) = (largeSize, largeDirectory, start)
        }
        guard directory.adding(checked: size).flatMap({ $0.adding(checked: begin) }) == directoryEnd else { return nil }
        return recordStart + recordByteCount + comment
    }
}
