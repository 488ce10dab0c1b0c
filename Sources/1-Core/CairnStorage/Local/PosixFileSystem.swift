import CCairnSystem

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The operating system's files.
package struct PosixFileSystem: FileSystem {
    package init() {}

    package func open(_ path: String, _ mode: FileOpenMode) throws(SystemCallError) -> Int32 {
        let descriptor: Int32
        switch mode {
        case .read:
            // Without O_NONBLOCK opening a FIFO would wait for a writer; regular files do not heed it.
            descriptor = systemOpen(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
        case .createExclusive:
            descriptor = systemOpen(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        case .directory:
            descriptor = systemOpen(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        }
        guard descriptor >= 0 else { throw SystemCallError(errno, "open") }
        return descriptor
    }

    package func close(_ descriptor: Int32) throws(SystemCallError) {
        try check(systemClose(descriptor), "close")
    }

    package func read(
        _ descriptor: Int32, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemCallError) -> Int {
        let count = pread(descriptor, buffer.baseAddress, buffer.count, off_t(offset))
        guard count >= 0 else { throw SystemCallError(errno, "pread") }
        return count
    }

    package func write(
        _ descriptor: Int32, at offset: Int, from buffer: UnsafeRawBufferPointer
    ) throws(SystemCallError) -> Int {
        let count = pwrite(descriptor, buffer.baseAddress, buffer.count, off_t(offset))
        guard count >= 0 else { throw SystemCallError(errno, "pwrite") }
        return count
    }

    package func synchronize(_ descriptor: Int32) throws(SystemCallError) {
        #if canImport(Darwin)
        // fsync on Darwin leaves the data in the drive's own cache.
        if fcntl(descriptor, F_FULLFSYNC) == 0 { return }
        if errno != ENOTSUP && errno != EINVAL && errno != ENOTTY { throw SystemCallError(errno, "fcntl(F_FULLFSYNC)") }
        #endif
        try check(fsync(descriptor), "fsync")
    }

    package func truncate(_ descriptor: Int32, to byteCount: Int) throws(SystemCallError) {
        try check(ftruncate(descriptor, off_t(byteCount)), "ftruncate")
    }

    package func allocate(_ descriptor: Int32, byteCount: Int) throws(SystemCallError) {
        // Not posix_fallocate, which writes to every block where the file system cannot reserve.
        try check(cairn_allocate(descriptor, Int64(byteCount)), "fallocate")
    }

    package func setDirect(_ descriptor: Int32, _ isDirect: Bool) throws(SystemCallError) {
        try check(cairn_set_direct(descriptor, isDirect ? 1 : 0), "fcntl(O_DIRECT)")
    }

    package func directMemoryAlignment(of descriptor: Int32) -> Int {
        Int(cairn_direct_memory_alignment(descriptor))
    }

    package func reopen(_ descriptor: Int32) throws(SystemCallError) -> Int32 {
        #if os(Linux)
        let another = systemOpen("/proc/self/fd/\(descriptor)", O_RDONLY | O_CLOEXEC, 0)
        guard another >= 0 else { throw SystemCallError(errno, "open") }
        return another
        #else
        // Elsewhere such a descriptor shares its flags with the first one.
        throw SystemCallError(ENOTSUP, "open")
        #endif
    }

    package func isMostlyCached(_ descriptor: Int32, byteCount: Int) -> Bool {
        let samples: Int32 = 64
        let cached = cairn_cached_samples(descriptor, Int64(byteCount), samples)
        return cached < 0 || cached * 2 > samples
    }

    package func startWriteback(_ descriptor: Int32, at offset: Int, byteCount: Int) {
        cairn_start_writeback(descriptor, Int64(offset), Int64(byteCount))
    }

    package func map(_ descriptor: Int32, byteCount: Int) throws(SystemCallError) -> MemoryMapping? {
        // mmap refuses an empty file: one anonymous page gives the mapping an address.
        let mappedByteCount = max(byteCount, 1)
        let address =
            byteCount > 0
            ? mmap(nil, mappedByteCount, PROT_READ, MAP_SHARED, descriptor, 0)
            : mmap(nil, mappedByteCount, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else {
            if errno == ENODEV { return nil }
            throw SystemCallError(errno, "mmap")
        }
        return MemoryMapping(adopting: address, mappedByteCount: mappedByteCount, byteCount: byteCount)
    }

    package func status(of descriptor: Int32) throws(SystemCallError) -> FileStatus {
        var record = stat()
        try check(fstat(descriptor, &record), "fstat")
        return FileStatus(record)
    }

    package func status(at path: String) throws(SystemCallError) -> FileStatus {
        var record = stat()
        try check(stat(path, &record), "stat")
        return FileStatus(record)
    }

    package func entries(of path: String) throws(SystemCallError) -> [DirectoryEntry] {
        guard let stream = opendir(path) else { throw SystemCallError(errno, "opendir") }
        defer { closedir(stream) }
        var entries: [DirectoryEntry] = []
        while true {
            errno = 0
            guard let record = readdir(stream) else {
                if errno != 0 { throw SystemCallError(errno, "readdir") }
                return entries
            }
            // A name that is not UTF-8 can be no key.
            guard
                let name = withUnsafePointer(
                    to: &record.pointee.d_name,
                    { tuple in
                        tuple.withMemoryRebound(to: CChar.self, capacity: 1) { String(validatingCString: $0) }
                    })
            else { continue }
            if name == "." || name == ".." { continue }
            entries.append(DirectoryEntry(name: name, kind: FileKind(directoryType: record.pointee.d_type)))
        }
    }

    package func rename(_ path: String, to newPath: String) throws(SystemCallError) {
        try check(systemRename(path, newPath), "rename")
    }

    package func unlink(_ path: String) throws(SystemCallError) {
        try check(systemUnlink(path), "unlink")
    }

    package func makeDirectory(_ path: String) throws(SystemCallError) {
        try check(mkdir(path, 0o777), "mkdir")
    }

    package func removeDirectory(_ path: String) throws(SystemCallError) {
        try check(rmdir(path), "rmdir")
    }

    package func uniqueToken() -> UInt64 { UInt64.random(in: .min ... .max) }

    private func check(_ result: Int32, _ call: String) throws(SystemCallError) {
        if result != 0 { throw SystemCallError(errno, call) }
    }
}

// Inside the type the methods of the same names hide the calls.
private func systemOpen(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 { open(path, flags, mode) }
private func systemClose(_ descriptor: Int32) -> Int32 { close(descriptor) }
private func systemRename(_ path: String, _ newPath: String) -> Int32 { rename(path, newPath) }
private func systemUnlink(_ path: String) -> Int32 { unlink(path) }

extension FileStatus {
    fileprivate init(_ record: stat) {
        #if canImport(Darwin)
        let time = record.st_mtimespec
        #else
        let time = record.st_mtim
        #endif
        let kind: FileKind =
            switch record.st_mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .directory
            case S_IFLNK: .symbolicLink
            default: .other
            }
        self.init(
            kind: kind, byteCount: Int(record.st_size),
            modified: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }
}

extension FileKind {
    fileprivate init?(directoryType: UInt8) {
        switch Int(directoryType) {
        case Int(DT_REG): self = .file
        case Int(DT_DIR): self = .directory
        case Int(DT_LNK): self = .symbolicLink
        case Int(DT_UNKNOWN): return nil
        default: self = .other
        }
    }
}
