import Synchronization

/// Page-aligned memory for input and output past the page cache, freed when the last reference goes.
///
/// `@unchecked Sendable`: a bare address; whoever holds the buffer orders the access to it.
final class AlignedBuffer: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer

    init(byteCount: Int) {
        bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: DirectAccess.alignment)
    }

    deinit { bytes.deallocate() }
}

/// Buffers that bytes without alignment are copied through. They are kept for reuse, because memory touched for the first
/// time costs many times the copy.
final class BounceBuffers: Sendable {
    static let shared = BounceBuffers()
    /// The size of one buffer: enough to keep a device busy, little enough to stay in a cache.
    static let byteCount = 1 << 20
    private static let idleLimit = 8

    private let idle = Mutex<[AlignedBuffer]>([])

    /// Calls `body` with a buffer that nobody else uses meanwhile.
    func withBuffer(
        _ body: (UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Void
    ) throws(SystemCallError) {
        let buffer = idle.withLock { $0.popLast() } ?? AlignedBuffer(byteCount: Self.byteCount)
        defer { idle.withLock { if $0.count < Self.idleLimit { $0.append(buffer) } } }
        try body(buffer.bytes)
    }
}
