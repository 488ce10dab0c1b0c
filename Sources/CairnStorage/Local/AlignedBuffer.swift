import CairnBase
import Synchronization

/// Page-aligned memory for input and output past the page cache, freed when the last reference goes.
final class AlignedBuffer: Sendable {
    private let memory: AlignedMemory
    private let byteCount: Int

    init(byteCount: Int) {
        // A smaller block would not begin at a page.
        memory = AlignedMemory(byteCount: max(byteCount, AlignedMemory.pageSize))
        self.byteCount = byteCount
    }

    var bytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: memory.base, count: byteCount)
    }

    deinit { memory.deallocate() }
}

/// Buffers that bytes without alignment are copied through. They are kept for reuse, because memory touched for the first
/// time costs many times the copy.
final class BounceBuffers: Sendable {
    static let shared = BounceBuffers()
    /// The size of one buffer: enough to keep a device busy, little enough to stay in a cache, and one huge page.
    static let byteCount = HugePages.byteCount
    private static let idleLimit = 8

    private let idle = Mutex<[AlignedBuffer]>([])

    /// Calls `body` with a buffer that no other caller uses meanwhile.
    func withBuffer(
        _ body: (UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Void
    ) throws(SystemCallError) {
        let buffer = idle.withLock { $0.popLast() } ?? AlignedBuffer(byteCount: Self.byteCount)
        defer { idle.withLock { if $0.count < Self.idleLimit { $0.append(buffer) } } }
        try body(buffer.bytes)
    }
}
