import CairnBase
import CairnStorage

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
