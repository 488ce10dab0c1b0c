package import CairnBase
package import CairnStorage

/// A part of a file, as a file of its own.
package final class FileWindow: StorageFile {
    package let key: String
    package let byteCount: Int
    private let file: any StorageFile
    private let start: Int

    /// All of a file of a storage, under the name that messages use.
    package convenience init(_ storage: any Storage, _ key: String) throws(CairnError) {
        let file = try storage.open(key)
        try self.init(file, offset: 0, byteCount: file.byteCount, name: storage.location(of: key))
    }

    /// - Throws: ``CairnError/Code/incomplete`` when the file ends before the part does.
    package init(_ file: any StorageFile, offset: Int, byteCount: Int, name: String? = nil) throws(CairnError) {
        guard offset >= 0, byteCount >= 0, let end = offset.adding(checked: byteCount), end <= file.byteCount else {
            throw CairnError(
                .incomplete, "the file ends before a part of it that is named elsewhere",
                .init(
                    file: file.key, offset: offset, expected: "\(byteCount) bytes from there",
                    found: "a file of \(file.byteCount) bytes"))
        }
        key = name ?? file.key
        self.file = file
        start = offset
        self.byteCount = byteCount
    }

    package func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a part of the file ends too early",
                .init(file: key, offset: offset, expected: "\(destination.byteCount) bytes", found: "\(byteCount)"))
        }
        try file.read(at: start + offset, into: &destination)
    }

    package func map() throws(CairnError) -> MemoryMapping? { nil }
}

/// Bytes in memory as a file.
final class BytesFile: StorageFile {
    let key: String
    private let bytes: [UInt8]
    var byteCount: Int { bytes.count }

    /// - Parameter name: What to call it in messages.
    init(_ bytes: [UInt8], name: String) {
        self.bytes = bytes
        key = name
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a part of the file ends too early",
                .init(file: key, offset: offset, expected: "\(destination.byteCount) bytes", found: "\(byteCount)"))
        }
        bytes.withUnsafeBytes { source in
            destination.withUnsafeMutableBytes { target in
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + target.count]))
            }
        }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }
}

/// Little-endian numbers of bytes in memory; `nil` beyond their end.
struct ByteReader {
    let bytes: [UInt8]

    func integer(at offset: Int, byteCount: Int) -> UInt64? {
        guard offset >= 0, let end = offset.adding(checked: byteCount), end <= bytes.count else { return nil }
        return bytes[offset..<end].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    func u16(at offset: Int) -> Int? { integer(at: offset, byteCount: 2).map { Int($0) } }

    func u32(at offset: Int) -> Int? { integer(at: offset, byteCount: 4).map { Int($0) } }

    /// A 64-bit size or offset; `nil` also when it is no `Int`.
    func u64(at offset: Int) -> Int? { integer(at: offset, byteCount: 8).flatMap { Int(exactly: $0) } }
}
