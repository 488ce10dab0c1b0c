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
