public import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Objects as files below a directory, made to last: what ``Storage`` calls durable survives a power failure.
///
/// Every object is written under a temporary name beside its final one, synchronized, renamed, and then the directories
/// from there up to the root are synchronized. What a crash leaves has a temporary name, which listings show.
public struct LocalStorage: Storage {
    /// The directory that holds everything. It is made, with its parents, when the first object is written.
    public let root: String
    /// How the bytes of new objects reach the device.
    package let writing: LocalWriting
    /// How objects are read.
    package let reading: LocalReading
    package let fileSystem: any FileSystem
    public var isLocal: Bool { true }
    public var distinction: Distinction? { fileSystem.distinction }
    /// Directories above or at the root that this process made and whose parents are not known to be on the device.
    private let unsynced = UnsyncedDirectories()

    /// Objects below the directory `root`, which need not exist yet.
    public init(root: String, writing: LocalWriting = .automatic, reading: LocalReading = .automatic) {
        self.init(root: root, writing: writing, reading: reading, fileSystem: PosixFileSystem())
    }

    package init(
        root: String, writing: LocalWriting = .automatic, reading: LocalReading = .automatic,
        fileSystem: any FileSystem
    ) {
        self.writing = writing
        self.reading = reading
        var trimmed = root.isEmpty ? "." : root
        while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed.removeLast() }
        self.root = trimmed
        self.fileSystem = fileSystem
    }

    public func open(_ key: String) throws(CairnError) -> any StorageFile {
        do throws(CairnError) {
            return try LocalFile(key: key, path: path(of: key), reading: reading, fileSystem: fileSystem)
        } catch {
            throw error.code == .notFound ? rootFlaw ?? error : error
        }
    }

    /// Why there can be nothing below the root, if it is not a directory and none can be made there: what looks like a missing
    /// object must not pass for an empty storage.
    var rootFlaw: CairnError? {
        func flaw(_ found: String) -> CairnError {
            CairnError(
                .notADirectory, "a file stands where the directory must be",
                .init(
                    file: root, expected: "a directory, or nothing yet", found: found,
                    advice: "choose another path, or move the file away"))
        }
        do throws(SystemCallError) {
            let status = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.status(at: root) }
            return status.kind == .directory ? nil : flaw("a file")
        } catch {
            return error.number == ENOTDIR ? flaw("a file on the way there") : nil
        }
    }

    public func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        let path = try path(of: key)
        try StorageKey.validate(offset: 0, byteCount: byteCount ?? 0, of: path)
        let (descriptor, temporaryPath) = try openTemporary(for: path)
        var direct: DirectFileWriter?
        do throws(SystemCallError) {
            if writing.isDirect(byteCount: byteCount) { direct = try DirectFileWriter(descriptor) }
        } catch {
            removeTemporary(temporaryPath)
            throw error.explained("write", path)
        }
        let writer = LocalWriter(
            key: key, path: path, temporaryPath: temporaryPath, descriptor: descriptor, direct: direct, storage: self)
        if let byteCount, byteCount > 0 {
            do throws(SystemCallError) {
                // Direct writes end at a block, and those that make a file longer are slow: they cannot overlap.
                let room = direct == nil ? byteCount : byteCount.roundedUp(toMultipleOf: DirectAccess.alignment)
                try descriptor.allocate(byteCount: room ?? byteCount)
            } catch {
                // Not every file system can reserve space, and the write itself reports what is really wrong.
                if [ENOSPC, EDQUOT, EFBIG].contains(error.number) || error.cause != nil {
                    writer.discard()
                    throw error.explained("reserve \(byteCount) bytes for", path)
                }
            }
        }
        return writer
    }

    public func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        let writer = try create(key, byteCount: nil)
        do throws(CairnError) {
            try writer.write(bytes.span.bytes, at: 0)
            try writer.finish(byteCount: bytes.count)
        } catch {
            writer.discard()
            throw error
        }
    }

    public func delete(_ keys: [String]) throws(CairnError) {
        var paths: [String] = []
        for key in keys { paths.append(try path(of: key)) }
        var firstError: CairnError?
        var touched: Set<String> = []
        for path in paths {
            do throws(SystemCallError) {
                try retryingInterrupted { () throws(SystemCallError) in try fileSystem.unlink(path) }
            } catch {
                if !error.isMissing { firstError = firstError ?? error.explained("delete", path) }
            }
            touched.insert(parent(of: path))
        }
        // Deepest first, so that a directory whose last subdirectory goes can go too.
        var directories = touched.sorted { ($1.utf8.count, $1) < ($0.utf8.count, $0) }[...]
        var toSynchronize: [String] = []
        while let directory = directories.popFirst() {
            guard directory != root else {
                toSynchronize.append(directory)
                continue
            }
            guard removeIfEmpty(directory) else {
                toSynchronize.append(directory)
                continue
            }
            let above = parent(of: directory)
            if touched.insert(above).inserted {
                let position = directories.firstIndex { $0.utf8.count < above.utf8.count } ?? directories.endIndex
                directories.insert(above, at: position)
            }
        }
        for directory in toSynchronize {
            do throws(SystemCallError) {
                try synchronize(directory)
            } catch {
                // Another process that removed it meanwhile removed the names in it as well.
                if !error.isMissing { firstError = firstError ?? error.explained("make durable", directory) }
            }
        }
        if let firstError { throw firstError }
    }

    public func location(of key: String) -> String { root == "/" ? "/" + key : root + "/" + key }

    /// The path of an object. Throws `.invalidArgument` for an invalid key.
    func path(of key: String) throws(CairnError) -> String {
        try StorageKey.validate(key)
        return location(of: key)
    }

    func rename(_ path: String, to newPath: String) throws(SystemCallError) {
        try retryingInterrupted { () throws(SystemCallError) in try fileSystem.rename(path, to: newPath) }
    }

    /// Removes what a writer gave up, and the directories below the root that it leaves empty: another writer that is about to
    /// write there makes them again.
    func removeTemporary(_ path: String) {
        // Not synced: what stays is debris that a collector finds.
        _ = try? retryingInterrupted { () throws(SystemCallError) in try fileSystem.unlink(path) }
        var directory = parent(of: path)
        while directory.utf8.count > root.utf8.count, removeIfEmpty(directory) { directory = parent(of: directory) }
    }

    /// Makes the names on the way from the root to `path` durable, and the root's own if this process made it.
    ///
    /// Every directory below the root is synchronized, not only those made here: another process may have made one and
    /// not have come to synchronizing it yet.
    func synchronizeDirectories(above path: String) throws(CairnError) {
        var directory = parent(of: path)
        while true {
            try synchronizeExplaining(directory)
            if directory == root { break }
            directory = parent(of: directory)
        }
        for made in unsynced.all {
            try synchronizeExplaining(parent(of: made))
            unsynced.remove(made)
        }
    }

    private func openTemporary(for path: String) throws(CairnError) -> (FileDescriptor, String) {
        var attempts = 0
        while true {
            let temporaryPath = StorageKey.temporary(for: path, token: fileSystem.uniqueToken())
            do throws(SystemCallError) {
                return (try FileDescriptor(fileSystem, temporaryPath, .createExclusive), temporaryPath)
            } catch {
                attempts += 1
                // A directory may be missing, be removed as empty by another thread, or the token be taken.
                guard error.number == ENOENT || error.number == EEXIST, attempts < 16 else {
                    if error.number == ENOENT, rootFlaw == nil {
                        throw CairnError(
                            .accessDenied, "the directory cannot be made there",
                            .init(file: parent(of: path), advice: "choose a directory on a file system for files"))
                    }
                    throw error.isMissing ? rootFlaw ?? error.explained("create", path) : error.explained("create", path)
                }
                if error.number == ENOENT { try makeDirectory(parent(of: path)) }
            }
        }
    }

    /// Makes a directory and those above it that are missing.
    private func makeDirectory(_ path: String) throws(CairnError) {
        // Noted before it is made: from the moment it exists another thread may report a file in it as durable.
        let isOutside = path.utf8.count <= root.utf8.count
        if isOutside { unsynced.insert(path) }
        do throws(SystemCallError) {
            try retryingInterrupted { () throws(SystemCallError) in try fileSystem.makeDirectory(path) }
        } catch {
            // What is there may be a file.
            if error.number == EEXIST {
                if isOutside, let flaw = rootFlaw { throw flaw }
                return
            }
            let above = parent(of: path)
            guard error.number == ENOENT, above != path else {
                throw error.isMissing
                    ? rootFlaw ?? error.explained("make the directory", path)
                    : error.explained("make the directory", path)
            }
            try makeDirectory(above)
            do throws(SystemCallError) {
                try retryingInterrupted { () throws(SystemCallError) in try fileSystem.makeDirectory(path) }
            } catch {
                // Missing: another thread removed the one above as empty, and the caller starts over.
                guard error.number == EEXIST || error.number == ENOENT else {
                    throw error.explained("make the directory", path)
                }
            }
        }
    }

    private func removeIfEmpty(_ directory: String) -> Bool {
        do throws(SystemCallError) {
            try retryingInterrupted { () throws(SystemCallError) in try fileSystem.removeDirectory(directory) }
            return true
        } catch {
            // Not empty, not ours to remove, or a mount point: it stays, and does no harm.
            return error.isMissing
        }
    }

    private func synchronizeExplaining(_ directory: String) throws(CairnError) {
        do throws(SystemCallError) {
            try synchronize(directory)
        } catch {
            throw error.explained("make durable", directory)
        }
    }

    private func synchronize(_ directory: String) throws(SystemCallError) {
        let descriptor = try FileDescriptor(fileSystem, directory, .directory)
        do throws(SystemCallError) {
            try descriptor.synchronize()
        } catch {
            // Some network file systems cannot synchronize a directory and make names durable at once.
            if error.number != EINVAL || error.cause != nil { throw error }
        }
    }

    private func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// Directories that were created but whose entries may not be on the device yet, shared by all writers of a storage.
final class UnsyncedDirectories: Sendable {
    private let paths = Mutex<Set<String>>([])

    func insert(_ path: String) { _ = paths.withLock { $0.insert(path) } }
    func remove(_ path: String) { _ = paths.withLock { $0.remove(path) } }

    /// Outermost first.
    var all: [String] {
        let snapshot = paths.withLock { $0 }
        return snapshot.sorted { ($0.utf8.count, $0) < ($1.utf8.count, $1) }
    }
}
