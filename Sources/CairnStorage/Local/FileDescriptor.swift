#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// An open descriptor, closed when the last reference goes, so that no thread uses a number that was given away again.
///
/// An error of that close is not looked at: a caller that needs the bytes to last has called `fsync` before, which reports
/// every failure that `close` could.
final class FileDescriptor: Sendable {
    let fileSystem: any FileSystem
    let number: Int32

    init(_ fileSystem: any FileSystem, _ path: String, _ mode: FileOpenMode) throws(SystemCallError) {
        self.fileSystem = fileSystem
        number = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.open(path, mode) }
    }

    private init(_ fileSystem: any FileSystem, adopting number: Int32) {
        self.fileSystem = fileSystem
        self.number = number
    }

    deinit { try? fileSystem.close(number) }

    var status: FileStatus {
        get throws(SystemCallError) {
            try retryingInterrupted { () throws(SystemCallError) in try fileSystem.status(of: number) }
        }
    }

    func synchronize() throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.synchronize(number) }
    }

    func truncate(to byteCount: Int) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.truncate(number, to: byteCount) }
    }

    func allocate(byteCount: Int) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.allocate(number, byteCount: byteCount) }
    }

    func setDirect(_ isDirect: Bool) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.setDirect(number, isDirect) }
    }

    /// The same file opened once more for reading; `nil` where the system cannot do that.
    func reopened() throws(SystemCallError) -> FileDescriptor? {
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
    func readFully(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Int {
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
    func writeFully(at offset: Int, from buffer: UnsafeRawBufferPointer) throws(SystemCallError) {
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
