import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Writes a file under a temporary name and renames it when all of it is on the device.
final class LocalWriter: StorageWriter {
    private enum State {
        case writing(FileDescriptor)
        /// The first failure is final: after it nothing is known of what reached the device, and a second `fsync` would
        /// report success for bytes that the first one lost (Rebello et al., "Can Applications Recover from fsync
        /// Failures?", USENIX ATC 2020).
        case failed(CairnError)
        case finished
        case discarded
    }

    let key: String
    private let storage: LocalStorage
    private let path: String
    private let temporaryPath: String
    /// What writes past the page cache, if anything does.
    private let direct: DirectFileWriter?
    private let state: Mutex<State>

    init(
        key: String, path: String, temporaryPath: String, descriptor: FileDescriptor, direct: DirectFileWriter?,
        storage: LocalStorage
    ) {
        self.key = key
        self.path = path
        self.temporaryPath = temporaryPath
        self.storage = storage
        self.direct = direct
        state = Mutex(.writing(descriptor))
    }

    deinit { discard() }

    var usefulConcurrency: Int { direct == nil ? ThreadPool.processorCount : DirectFileWriter.usefulConcurrency }

    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: path)
        guard offset.adding(checked: bytes.byteCount) != nil else {
            throw CairnError(.invalidArgument, "the range ends beyond any file", .init(file: path, offset: offset))
        }
        let descriptor = try openDescriptor()
        do throws(SystemCallError) {
            try bytes.withUnsafeBytes { buffer throws(SystemCallError) in
                if let direct {
                    try direct.write(buffer, at: offset)
                } else {
                    try descriptor.writeFully(at: offset, from: buffer)
                }
            }
        } catch {
            throw fail(error.explained("write", path).adding(.init(offset: offset)))
        }
    }

    func startWriteback(at offset: Int, byteCount: Int) {
        guard direct == nil, offset >= 0, byteCount > 0, let descriptor = try? openDescriptor() else { return }
        descriptor.fileSystem.startWriteback(descriptor.number, at: offset, byteCount: byteCount)
    }

    func finish(byteCount: Int) throws(CairnError) {
        try StorageKey.validate(offset: 0, byteCount: byteCount, of: path)
        let descriptor = try openDescriptor()
        do throws(SystemCallError) {
            try direct?.flush()
        } catch {
            throw fail(error.explained("write", path))
        }
        do throws(SystemCallError) {
            try descriptor.truncate(to: byteCount)
        } catch {
            throw fail(error.explained("set the length of", path))
        }
        do throws(SystemCallError) {
            try descriptor.synchronize()
        } catch {
            throw fail(error.explained("make durable", path))
        }
        do throws(SystemCallError) {
            try storage.rename(temporaryPath, to: path)
        } catch {
            throw fail(error.explained("rename into place", path))
        }
        // From here on the new object is the object, whatever happens to the directories.
        state.withLock { $0 = .finished }
        try storage.synchronizeDirectories(above: path)
    }

    func discard() {
        let mustRemove = state.withLock { state in
            switch state {
            case .writing, .failed:
                state = .discarded
                return true
            case .finished, .discarded:
                return false
            }
        }
        if mustRemove { storage.removeTemporary(temporaryPath) }
    }

    /// Records the first failure and gives it back.
    private func fail(_ error: CairnError) -> CairnError {
        state.withLock { state in
            if case .writing = state { state = .failed(error) }
        }
        return error
    }

    private func openDescriptor() throws(CairnError) -> FileDescriptor {
        let current = state.withLock { $0 }
        switch current {
        case .writing(let descriptor): return descriptor
        case .failed(let error): throw error
        case .finished, .discarded:
            throw CairnError(.invalidArgument, "the writer was finished or discarded before", .init(file: path))
        }
    }
}

/// How the bytes of new objects of a ``LocalStorage`` reach the device.
public enum LocalWriting: Sendable, Hashable {
    /// Through the page cache.
    case buffered
    /// Past the page cache, where the file system can do that, else through it. The objects are not in memory afterwards.
    case direct
    /// What is faster for the object, given its size. "The path to the disk" in Docs/Storage.md says what that is and why.
    case automatic

    /// From this size on it pays that many writes are under way at once.
    private static let directByteCount = 16 << 20

    /// - Parameter byteCount: The size of the object, if it is known beforehand.
    func isDirect(byteCount: Int?) -> Bool {
        switch self {
        case .buffered: false
        case .direct: true
        case .automatic: (byteCount ?? 0) >= Self.directByteCount
        }
    }
}
