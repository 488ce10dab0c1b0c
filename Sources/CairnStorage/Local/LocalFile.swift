import CairnBase
import Synchronization

/// A file of ``LocalStorage`` opened for reading.
final class LocalFile: StorageFile {
    let key: String
    let byteCount: Int
    private let path: String
    private let descriptor: FileDescriptor
    private let reading: LocalReading
    /// What reads past the page cache; a `nil` inside once it is known that nothing does.
    private let direct = Mutex<DirectFileReader??>(nil)

    init(key: String, path: String, reading: LocalReading, fileSystem: any FileSystem) throws(CairnError) {
        let status: FileStatus
        do throws(SystemCallError) {
            descriptor = try FileDescriptor(fileSystem, path, .read)
            status = try descriptor.status
        } catch {
            throw error.explained("open", path)
        }
        switch status.kind {
        case .file: break
        case .directory: throw CairnError(.notFound, "not a file but a directory", .init(file: path))
        default: throw CairnError(.unsupported, "not a regular file", .init(file: path))
        }
        self.key = key
        self.path = path
        self.reading = reading
        byteCount = status.byteCount
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: path)
        let expected = destination.byteCount
        guard offset.adding(checked: expected) != nil else {
            throw StorageKey.shortRead(of: path, at: offset, expected: expected, found: 0, byteCount: byteCount)
        }
        let found: Int
        do throws(SystemCallError) {
            found = try destination.withUnsafeMutableBytes { buffer throws(SystemCallError) in
                if reading.mayBeDirect(buffer.count, of: byteCount), let direct = try directReader() {
                    return try direct.readFully(at: offset, into: buffer)
                }
                return try descriptor.readFully(at: offset, into: buffer)
            }
        } catch {
            throw error.explained("read", path).adding(.init(offset: offset))
        }
        guard found == expected else {
            let current = (try? descriptor.status)?.byteCount ?? byteCount
            throw StorageKey.shortRead(of: path, at: offset, expected: expected, found: found, byteCount: current)
        }
    }

    /// What reads past the page cache, made when it is needed for the first time.
    private func directReader() throws(SystemCallError) -> DirectFileReader? {
        try direct.withLock { direct throws(SystemCallError) in
            if let direct { return direct }
            var reader: DirectFileReader?
            if reading == .direct || !descriptor.isMostlyCached(byteCount: byteCount),
                let another = try descriptor.reopened()
            {
                reader = try DirectFileReader(another)
            }
            direct = .some(reader)
            return reader
        }
    }

    func map() throws(CairnError) -> MemoryMapping? {
        do throws(SystemCallError) {
            return try descriptor.fileSystem.map(descriptor.number, byteCount: byteCount)
        } catch {
            throw error.explained("map", path)
        }
    }
}
