#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The process's memory, seen from outside.
enum Memory {
    /// Touches and frees memory until that runs at memory speed, so that the timed region does not pay for it.
    static func warm(byteCount: Int) {
        for _ in 0..<4 {
            guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                memory != MAP_FAILED
            else { return }
            #if canImport(Glibc)
            madvise(memory, byteCount, MADV_HUGEPAGE)
            #endif
            let start = ContinuousClock.now
            for offset in stride(from: 0, to: byteCount, by: 4096) {
                memory.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
            }
            munmap(memory, byteCount)
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            if Double(byteCount) / seconds > 2e9 { return }
        }
    }

    /// Starts a new high-water mark of resident memory and returns what is resident now, in bytes.
    static func resetPeak() -> Int {
        let descriptor = open("/proc/self/clear_refs", O_WRONLY)
        if descriptor >= 0 {
            _ = write(descriptor, "5", 1)
            close(descriptor)
        }
        return status("VmRSS:")
    }

    /// The most resident memory since ``resetPeak()``, in bytes.
    static func peak() -> Int { status("VmHWM:") }

    private static func status(_ field: String) -> Int {
        let descriptor = open("/proc/self/status", O_RDONLY)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 8192)
        let count = read(descriptor, &buffer, buffer.count)
        for line in String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
        where line.hasPrefix(field) {
            return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
        }
        return 0
    }
}
