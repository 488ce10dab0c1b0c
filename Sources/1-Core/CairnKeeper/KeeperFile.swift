import CCairnSystem
import CairnBase
import CairnStorage

/// An object in a keeper's memory, opened for reading: from here on the keeper is not needed.
final class KeeperFile: StorageFile {
    let key: String
    let byteCount: Int
    private let reader: Int
    private let file: FileDescriptor
    private let connection: KeeperConnection
    private let generation: Int
    /// Somebody may still look at the memory when this is gone.
    private let isMapped = Monitor(false)

    init(
        key: String, reader: Int, byteCount: Int, file: FileDescriptor, connection: KeeperConnection
    ) throws(CairnError) {
        self.key = key
        self.byteCount = byteCount
        self.reader = reader
        self.file = file
        self.connection = connection
        generation = connection.generation
        let size: Int
        do throws(SystemCallError) {
            size = try file.status.byteCount
        } catch {
            throw error.explained("look at", key)
        }
        guard byteCount >= 0, byteCount <= size else {
            throw CairnError(
                .malformed, "the keeper gives less memory than it says",
                .init(file: key, expected: "\(byteCount) bytes", found: "\(size) bytes"))
        }
    }

    deinit {
        if !isMapped.read({ $0 }) { connection.tell(.release(reader: reader), generation: generation) }
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: key)
        let expected = destination.byteCount
        guard let end = offset.adding(checked: expected), end <= byteCount else {
            throw StorageKey.shortRead(
                of: key, at: offset, expected: expected, found: max(0, byteCount - offset), byteCount: byteCount)
        }
        let found: Int
        do throws(SystemCallError) {
            found = try destination.withUnsafeMutableBytes { buffer throws(SystemCallError) in
                try file.readFully(at: offset, into: buffer)
            }
        } catch {
            throw error.explained("read", key)
        }
        guard found == expected else {
            throw StorageKey.shortRead(of: key, at: offset, expected: expected, found: found, byteCount: byteCount)
        }
    }

    func map() throws(CairnError) -> MemoryMapping? {
        // Memory that somebody could make shorter would end the process that looks at it.
        guard byteCount == 0 || cairn_is_size_sealed(file.number) != 0 else { return nil }
        isMapped.change { $0 = true }
        do throws(SystemCallError) {
            return try PosixFileSystem().map(file.number, byteCount: byteCount)
        } catch {
            throw error.explained("map", key)
        }
    }
}
