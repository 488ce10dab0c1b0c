import Cairn

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The same bytes through `write`, `fsync` and `read` alone: what no checkpoint can be expected to beat.
struct PlainFile {
    let path: String
    private static let blockByteCount = 8 << 20

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
            loaded.append(try Tensor(tensor.scalarType, tensor.shape) { bytes in
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

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, bytes, count) }

private func systemRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(descriptor, bytes, count)
}
