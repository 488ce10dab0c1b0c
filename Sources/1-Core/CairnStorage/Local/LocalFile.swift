import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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

/// How ``LocalStorage`` reads objects.
public enum LocalReading: Sendable, Hashable {
    /// Through the page cache: what is read again, by whatever process, comes from memory.
    case buffered
    /// Past the page cache, where the file system can do that, else through it. What is in memory is read from the device
    /// all the same, and reading leaves nothing there.
    case direct
    /// Large reads of large objects that are not in the page cache go past it, the others through it. "The path to the
    /// disk" in Docs/Storage.md says why.
    case automatic

    /// Reads and objects below these sizes gain nothing.
    private static let leastRead = 256 << 10
    private static let leastObject = 16 << 20

    /// Whether a read of so many bytes may go past the page cache.
    func mayBeDirect(_ readByteCount: Int, of byteCount: Int) -> Bool {
        switch self {
        case .buffered: false
        case .direct: readByteCount > 0
        case .automatic: readByteCount >= Self.leastRead && byteCount >= Self.leastObject
        }
    }
}

/// A file mapped read-only into memory, unmapped when the last reference goes.
///
/// The bytes come from the page cache on first touch. Shortening the file while it is mapped makes the process receive
/// SIGBUS on access: storages of this module never shorten a file in place, they replace it.
public final class MemoryMapping: Sendable {
    /// The size of the file in bytes.
    package let byteCount: Int
    /// The first byte, on a page boundary.
    // Safe across threads: the memory is never written and stays mapped as long as this object lives.
    nonisolated(unsafe) package let baseAddress: UnsafeRawPointer
    private let mappedByteCount: Int

    /// Takes over `mappedByteCount` mapped bytes at `baseAddress`, of which the first `byteCount` are the file's.
    package init(adopting baseAddress: UnsafeRawPointer, mappedByteCount: Int, byteCount: Int) {
        self.baseAddress = baseAddress
        self.mappedByteCount = mappedByteCount
        self.byteCount = byteCount
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: baseAddress), mappedByteCount) }

    /// All bytes of the file.
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get { RawSpan(baseAddress, byteCount: byteCount, borrowing: self) }
    }
}

/// An open descriptor, closed when the last reference goes, so that no thread uses a number that was given away again.
///
/// An error of that close is not looked at: a caller that needs the bytes to last has called `fsync` before, which reports
/// every failure that `close` could.
package final class FileDescriptor: Sendable {
    let fileSystem: any FileSystem
    package let number: Int32

    init(_ fileSystem: any FileSystem, _ path: String, _ mode: FileOpenMode) throws(SystemCallError) {
        self.fileSystem = fileSystem
        number = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.open(path, mode) }
    }

    /// Takes over an open descriptor.
    package init(_ fileSystem: any FileSystem, adopting number: Int32) {
        self.fileSystem = fileSystem
        self.number = number
    }

    deinit { try? fileSystem.close(number) }

    package var status: FileStatus {
        get throws(SystemCallError) {
            try retryingInterrupted { () throws(SystemCallError) in try fileSystem.status(of: number) }
        }
    }

    func synchronize() throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.synchronize(number) }
    }

    package func truncate(to byteCount: Int) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.truncate(number, to: byteCount) }
    }

    package func allocate(byteCount: Int) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.allocate(number, byteCount: byteCount) }
    }

    func setDirect(_ isDirect: Bool) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.setDirect(number, isDirect) }
    }

    /// The same file opened once more for reading; `nil` where the system cannot do that.
    package func reopened() throws(SystemCallError) -> FileDescriptor? {
        do throws(SystemCallError) {
            let another = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.reopen(number) }
            return FileDescriptor(fileSystem, adopting: another)
        } catch {
            if error.cause != nil { throw error }
            return nil
        }
    }

    func isMostlyCached(byteCount: Int) -> Bool { fileSystem.isMostlyCached(number, byteCount: byteCount) }

    var directMemoryAlignment: Int { fileSystem.directMemoryAlignment(of: number) }

    /// One read: how many bytes it brought, 0 at the end of the file.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Int {
        try retryingInterrupted { () throws(SystemCallError) in
            try fileSystem.read(number, at: offset, into: buffer)
        }
    }

    /// One write: how many bytes it took.
    func write(at offset: Int, from buffer: UnsafeRawBufferPointer) throws(SystemCallError) -> Int {
        try retryingInterrupted { () throws(SystemCallError) in
            try fileSystem.write(number, at: offset, from: buffer)
        }
    }

    /// Reads until `buffer` is full or the file ends; how many bytes that were.
    package func readFully(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Int {
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = try read(at: offset + done, into: rest)
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// Writes all of `buffer`.
    package func writeFully(at offset: Int, from buffer: UnsafeRawBufferPointer) throws(SystemCallError) {
        var done = 0
        while done < buffer.count {
            let rest = UnsafeRawBufferPointer(rebasing: buffer[done...])
            let count = try write(at: offset + done, from: rest)
            // No progress and no error: without this the loop would never end.
            if count == 0 { throw SystemCallError(EIO, "pwrite wrote nothing") }
            done += count
        }
    }
}
