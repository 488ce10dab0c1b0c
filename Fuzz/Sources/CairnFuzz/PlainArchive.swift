/// The smallest zip archive: stored records without checksums.
enum PlainArchive {
    static func bytes(_ records: [(name: String, bytes: [UInt8])]) -> [UInt8] {
        var file: [UInt8] = []
        var directory: [UInt8] = []
        for record in records {
            let name = Array(record.name.utf8)
            let offset = file.count
            let sizes = number(record.bytes.count, 4) + number(record.bytes.count, 4)
            let common = [UInt8](repeating: 0, count: 8) + number(0, 4) + sizes + number(name.count, 2) + number(0, 2)
            file += [0x50, 0x4B, 3, 4, 0, 0] + common + name + record.bytes
            directory += [0x50, 0x4B, 1, 2, 0, 0, 0, 0] + common + [UInt8](repeating: 0, count: 10)
            directory += number(offset, 4) + name
        }
        let end = number(records.count, 2) + number(records.count, 2) + number(directory.count, 4)
        return file + directory + [0x50, 0x4B, 5, 6, 0, 0, 0, 0] + end + number(file.count, 4) + number(0, 2)
    }

    private static func number(_ value: Int, _ byteCount: Int) -> [UInt8] {
        (0..<byteCount).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
}
