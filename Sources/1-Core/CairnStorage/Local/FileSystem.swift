package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The system calls that ``LocalStorage`` makes, one method a call and no policy: interrupted and short calls are the
/// caller's business. Tests put a simulated disk in its place.
package protocol FileSystem: Sendable {
    /// What tells it from others with the same paths; `nil` for that of this machine.
    var distinction: Distinction? { get }
    /// open(2), never inherited by child processes.
    func open(_ path: String, _ mode: FileOpenMode) throws(SystemCallError) -> Int32
    /// close(2). The descriptor is gone even when this throws.
    func close(_ descriptor: Int32) throws(SystemCallError)
    /// pread(2): how many bytes were read, 0 at the end of the file.
    func read(
        _ descriptor: Int32, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemCallError) -> Int
    /// pwrite(2): how many bytes were written.
    func write(
        _ descriptor: Int32, at offset: Int, from buffer: UnsafeRawBufferPointer
    ) throws(SystemCallError) -> Int
    /// fsync(2), of a file or a directory.
    func synchronize(_ descriptor: Int32) throws(SystemCallError)
    /// ftruncate(2).
    func truncate(_ descriptor: Int32, to byteCount: Int) throws(SystemCallError)
    /// fallocate(2) from offset 0: reserves space and grows the file.
    func allocate(_ descriptor: Int32, byteCount: Int) throws(SystemCallError)
    /// Lets reads and writes of the descriptor pass by the page cache, or ends that (O_DIRECT, F_NOCACHE). Where it is on,
    /// offsets, lengths and addresses may have to be multiples of a block: else the calls fail with EINVAL.
    func setDirect(_ descriptor: Int32, _ isDirect: Bool) throws(SystemCallError)
    /// What addresses must be multiples of in such reads and writes: a power of two, at most 4096.
    func directMemoryAlignment(of descriptor: Int32) -> Int
    /// Opens the file of a descriptor again, for reading, whatever has become of its name.
    func reopen(_ descriptor: Int32) throws(SystemCallError) -> Int32
    /// Whether most of a file's bytes are in the page cache, as far as the system tells: else yes.
    func isMostlyCached(_ descriptor: Int32, byteCount: Int) -> Bool
    /// sync_file_range(2), a hint that cannot fail.
    func startWriteback(_ descriptor: Int32, at offset: Int, byteCount: Int)
    /// mmap(2) of the whole file, read-only; `nil` where files cannot be mapped.
    func map(_ descriptor: Int32, byteCount: Int) throws(SystemCallError) -> MemoryMapping?
    /// fstat(2).
    func status(of descriptor: Int32) throws(SystemCallError) -> FileStatus
    /// stat(2), following symbolic links.
    func status(at path: String) throws(SystemCallError) -> FileStatus
    /// The entries of a directory without "." and "..", in no order.
    func entries(of path: String) throws(SystemCallError) -> [DirectoryEntry]
    /// rename(2).
    func rename(_ path: String, to newPath: String) throws(SystemCallError)
    /// unlink(2).
    func unlink(_ path: String) throws(SystemCallError)
    /// mkdir(2).
    func makeDirectory(_ path: String) throws(SystemCallError)
    /// rmdir(2).
    func removeDirectory(_ path: String) throws(SystemCallError)
    /// A number that no other writer to the same directory uses, as far as chance allows.
    func uniqueToken() -> UInt64
}

extension FileSystem {
    package var distinction: Distinction? { nil }
}

/// What a descriptor is opened for.
package enum FileOpenMode: Sendable {
    /// Reading an existing file.
    case read
    /// Writing, and reading again, a file that must not exist yet.
    case createExclusive
    /// Synchronizing a directory.
    case directory
}

/// What is at a path.
package enum FileKind: Sendable, Equatable {
    case file, directory, symbolicLink, other
}

/// The part of stat(2) that storage needs.
package struct FileStatus: Sendable, Equatable {
    package var kind: FileKind
    package var byteCount: Int
    /// Nanoseconds since 1970.
    package var modified: Int64

    package init(kind: FileKind, byteCount: Int, modified: Int64) {
        self.kind = kind
        self.byteCount = byteCount
        self.modified = modified
    }
}

/// One name in a directory. `kind` is `nil` where the file system does not tell without a stat.
package struct DirectoryEntry: Sendable, Equatable {
    package var name: String
    package var kind: FileKind?

    package init(name: String, kind: FileKind?) {
        self.name = name
        self.kind = kind
    }
}

/// A system call that failed.
package struct SystemCallError: Error, CustomStringConvertible {
    /// The value of `errno`.
    package var number: Int32
    /// The name of the call.
    package var call: String
    /// What made a simulated file system fail the call.
    package var cause: (any Error)?

    package init(_ number: Int32, _ call: String, cause: (any Error)? = nil) {
        self.number = number
        self.call = call
        self.cause = cause
    }

    package var description: String { "\(call): \(String(cString: strerror(number)))" }

    /// Whether there is nothing at the path.
    package var isMissing: Bool { number == ENOENT || number == ENOTDIR }

    /// The error for the caller: `attempt` completes the sentence "cannot …".
    package func explained(_ attempt: String, _ path: String) -> CairnError {
        let (code, advice) = classification
        return CairnError(
            code, "cannot \(attempt): \(String(cString: strerror(number))) (\(call))",
            .init(file: path, advice: advice), cause: cause)
    }

    private var classification: (CairnError.Code, String?) {
        switch number {
        case ENOENT, ENOTDIR:
            (.notFound, nil)
        case EEXIST:
            (.alreadyExists, nil)
        case ENOSPC:
            (.noSpace, "free space on that file system, keep fewer checkpoints, or choose another directory")
        case EDQUOT:
            (.noSpace, "the quota on that file system is used up: delete files or ask for a larger one")
        case EACCES, EPERM:
            (.accessDenied, "check the owner and the mode of the file and of the directories above it")
        case EROFS:
            (.accessDenied, "the file system is mounted read-only: choose another directory")
        case EMFILE, ENFILE:
            (.inputOutput, "too many files are open: raise the limit (ulimit -n)")
        case ENAMETOOLONG:
            (.invalidArgument, "choose a shorter name")
        case EISDIR:
            (.inputOutput, "a directory is in the way")
        case EFBIG:
            (.inputOutput, "the file is larger than the file system or the limit (ulimit -f) allows")
        case EIO:
            (.inputOutput, "the device failed: see the system log, and do not trust what was written since")
        case ESTALE:
            (.inputOutput, "the file server no longer knows the file: mount again")
        default:
            (.inputOutput, nil)
        }
    }
}

/// Repeats an interrupted call. Not for `close`, whose descriptor is gone even then.
package func retryingInterrupted<Value>(
    _ call: () throws(SystemCallError) -> Value
) throws(SystemCallError) -> Value {
    while true {
        do throws(SystemCallError) {
            return try call()
        } catch {
            if error.number != EINTR { throw error }
        }
    }
}
