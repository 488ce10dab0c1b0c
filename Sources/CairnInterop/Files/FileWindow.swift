import CairnBase
import CairnStorage

/// A part of a file, as a file of its own.
final class FileWindow: StorageFile {
    let key: String
    let byteCount: Int
    private let file: any StorageFile
    private let start: Int

    /// All of a file of a storage, under the name that messages use.
    convenience init(_ storage: any Storage, _ key: String) throws(CairnError) {
        let file = try storage.open(key)
        try self.init(file, offset: 0, byteCount: file.byteCount, name: storage.place(of: key))
    }

    /// - Throws: ``CairnError/Code/incomplete`` when the file ends before the part does.
    init(_ file: any StorageFile, offset: Int, byteCount: Int, name: String? = nil) throws(CairnError) {
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

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a part of the file ends too early",
                .init(file: key, offset: offset, expected: "\(destination.byteCount) bytes", found: "\(byteCount)"))
        }
        try file.read(at: start + offset, into: &destination)
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }
}
