import CCairnSystem
import Cairn
import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The same bytes through `write`, `fsync` and `read` alone: what no checkpoint can be expected to beat.
struct PlainFile {
    /// What all plain copies, reads and writes move at a time.
    static let blockByteCount = 8 << 20

    let path: String

    init(folder: String) { path = folder + "/plain.bin" }

    func write(_ state: TrainingState) throws {
        unlink(path)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        guard descriptor >= 0 else { throw CairnError(.inputOutput, "the file cannot be made", .init(file: path)) }
        defer { close(descriptor) }
        for (_, tensor) in state.tensors {
            try tensor.bytes.withUnsafeBytes { bytes in
                var offset = 0
                while offset < bytes.count {
                    let count = Swift.min(Self.blockByteCount, bytes.count - offset)
                    let written = systemWrite(descriptor, bytes.baseAddress?.advanced(by: offset), count)
                    guard written > 0 else { throw CairnError(.inputOutput, "a write failed", .init(file: path)) }
                    offset += written
                }
            }
        }
        guard fsync(descriptor) == 0 else { throw CairnError(.inputOutput, "fsync failed", .init(file: path)) }
    }

    /// Reads into tensors of the same sizes, as a load does.
    func read(_ state: TrainingState) throws {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { throw CairnError(.inputOutput, "the file cannot be opened", .init(file: path)) }
        defer { close(descriptor) }
        var loaded: [Tensor] = []
        for (_, tensor) in state.tensors {
            loaded.append(
                try Tensor(tensor.scalarType, tensor.shape) { bytes in
                    try bytes.withUnsafeMutableBytes { bytes in
                        var offset = 0
                        while offset < bytes.count {
                            let count = Swift.min(Self.blockByteCount, bytes.count - offset)
                            let got = systemRead(descriptor, bytes.baseAddress?.advanced(by: offset), count)
                            guard got > 0 else { throw CairnError(.inputOutput, "a read failed", .init(file: path)) }
                            offset += got
                        }
                    }
                })
        }
    }
}

/// Where the next read of files comes from.
enum PageCache {
    /// Makes it the device or memory, for all files alike, whatever way they were written.
    static func prepare(_ paths: [String], cold: Bool) throws {
        for path in paths { try cold ? drop(path) : fill(path) }
    }

    /// Makes the next read of a file come from memory.
    static func fill(_ path: String) throws {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        while systemRead(descriptor, buffer, 1 << 20) > 0 {}
    }

    /// Makes the next read of a file come from the disk.
    static func drop(_ path: String) throws {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        fsync(descriptor)
        #if canImport(Glibc)
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
        #endif
    }
}

extension PageCache {
    /// Overwrites a part of a file with the same byte, as a disk might that loses it.
    static func overwrite(_ path: String, _ range: Range<Int>) throws {
        let descriptor = open(path, O_WRONLY)
        guard descriptor >= 0 else { throw CairnError(.inputOutput, "the file cannot be damaged", .init(file: path)) }
        defer { close(descriptor) }
        let bytes = [UInt8](repeating: 0x5A, count: 1 << 20)
        lseek(descriptor, off_t(range.lowerBound), SEEK_SET)
        for begin in stride(from: range.lowerBound, to: range.upperBound, by: bytes.count) {
            let count = min(bytes.count, range.upperBound - begin)
            guard bytes.withUnsafeBytes({ systemWrite(descriptor, $0.baseAddress, count) }) == count else {
                throw CairnError(.inputOutput, "the file cannot be damaged", .init(file: path))
            }
        }
    }
}

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, bytes, count) }

private func systemRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(descriptor, bytes, count)
}

/// The same bytes through plain calls again, but as hard as they can be made to work: room reserved first, two threads that
/// take 8 MiB blocks in turn, and either each block sent to the disk as soon as it is written or the page cache passed by.
struct HardPlainFile: Sendable {
    /// How blocks reach the disk.
    enum Manner: Sendable {
        /// Into the page cache, and at once on to the disk (`sync_file_range`).
        case earlyWriteback
        /// Past the page cache (`O_DIRECT`), from aligned copies.
        case direct
    }

    private static let blockByteCount = PlainFile.blockByteCount
    private static let alignment = 4096

    let path: String
    let manner: Manner

    init(folder: String, manner: Manner) {
        path = folder + (manner == .direct ? "/direct.bin" : "/writeback.bin")
        self.manner = manner
    }

    /// A run of a tensor's bytes and where it goes.
    private struct Block: Sendable {
        var tensor: Tensor
        var range: Range<Int>
        var offset: Int
    }

    /// Whether the file system takes such a file.
    var isPossible: Bool {
        guard let descriptor = try? open() else { return false }
        close(descriptor)
        return true
    }

    func write(_ state: TrainingState) throws {
        var blocks: [Block] = []
        var end = 0
        for (_, tensor) in state.tensors {
            for begin in stride(from: 0, to: tensor.byteCount, by: Self.blockByteCount) {
                let range = begin..<min(tensor.byteCount, begin + Self.blockByteCount)
                blocks.append(Block(tensor: tensor, range: range, offset: end))
                // Padded, so that every block begins where direct I/O can begin.
                end += (range.count + Self.alignment - 1) / Self.alignment * Self.alignment
            }
        }
        let descriptor = try open()
        defer { close(descriptor) }
        #if canImport(Glibc)
        guard posix_fallocate(descriptor, 0, off_t(end)) == 0 else { throw failure("no room") }
        #endif
        let work = blocks
        try ThreadPool.shared.forEach(work.count, width: 2) { index in try write(work[index], to: descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("fsync failed") }
    }

    /// Reads what was written into fresh memory on huge pages: four threads that take 8 MiB blocks in turn, through the page
    /// cache or past it as the file was written.
    func read() throws {
        let descriptor = systemOpen(path, O_RDONLY | (try Self.flags(manner)))
        guard descriptor >= 0 else { throw failure("the file cannot be opened") }
        defer { close(descriptor) }
        let byteCount = Int(lseek(descriptor, 0, SEEK_END))
        guard byteCount > 0,
            let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            memory != MAP_FAILED
        else { throw failure("there is no memory") }
        defer { munmap(memory, byteCount) }
        #if canImport(Glibc)
        madvise(memory, byteCount, MADV_HUGEPAGE)
        #endif
        // Each block is a range of its own.
        nonisolated(unsafe) let base = memory
        let blockCount = (byteCount + Self.blockByteCount - 1) / Self.blockByteCount
        try ThreadPool.shared.forEach(blockCount, width: 4) { index in
            var offset = index * Self.blockByteCount
            let end = min(byteCount, offset + Self.blockByteCount)
            while offset < end {
                let count = pread(descriptor, base + offset, end - offset, off_t(offset))
                guard count > 0 else { throw failure("a read failed") }
                offset += count
            }
        }
    }

    func remove() { unlink(path) }

    private func write(_ block: Block, to descriptor: Int32) throws {
        let bytes = block.tensor.bytes.extracting(block.range)
        try bytes.withUnsafeBytes { bytes in
            guard manner == .direct else {
                try writeFully(descriptor, bytes, at: block.offset)
                cairn_start_writeback(descriptor, Int64(block.offset), Int64(bytes.count))
                return
            }
            let padded = (bytes.count + Self.alignment - 1) / Self.alignment * Self.alignment
            let isAligned = Int(bitPattern: bytes.baseAddress) % Self.alignment == 0 && padded == bytes.count
            if isAligned { return try writeFully(descriptor, bytes, at: block.offset) }
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: padded, alignment: Self.alignment)
            defer { copy.deallocate() }
            copy.copyMemory(from: bytes)
            try writeFully(descriptor, UnsafeRawBufferPointer(copy), at: block.offset)
        }
    }

    private func writeFully(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var written = 0
        while written < bytes.count {
            let count = pwrite(
                descriptor, bytes.baseAddress?.advanced(by: written), bytes.count - written, off_t(offset + written))
            guard count > 0 else { throw failure("a write failed") }
            written += count
        }
    }

    private func open() throws -> Int32 {
        unlink(path)
        let descriptor = systemOpen(path, O_WRONLY | O_CREAT | O_TRUNC | (try Self.flags(manner)))
        guard descriptor >= 0 else { throw failure("the file cannot be made") }
        return descriptor
    }

    /// Linux's O_DIRECT, which the C library shows to C alone.
    private static func flags(_ manner: Manner) throws -> Int32 {
        guard manner == .direct else { return 0 }
        #if canImport(Glibc) && arch(x86_64)
        return 0x4000
        #elseif canImport(Glibc) && arch(arm64)
        return 0x10000
        #else
        throw CairnError(.unsupported, "there is no direct I/O here")
        #endif
    }

    private func failure(_ message: String) -> CairnError {
        CairnError(.inputOutput, message, .init(file: path, found: String(cString: strerror(errno))))
    }
}

private func systemOpen(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o644) }
