import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Whole blocks of a file read and written past the page cache, which asks for offsets and lengths that are multiples of
/// ``alignment``, and for addresses that ``takes(_:)`` accepts.
///
/// Some file systems let a file be set up for this and then refuse the call itself: from the first such refusal on, the
/// same calls go through the page cache.
final class DirectAccess: Sendable {
    /// What every current disk and file system is content with.
    static let alignment = 4096

    private let descriptor: FileDescriptor
    private let memoryAlignment: Int
    private let isDirect = Atomic(true)

    /// `nil` where the file system knows no direct access.
    init?(_ descriptor: FileDescriptor) throws(SystemCallError) {
        self.descriptor = descriptor
        do throws(SystemCallError) {
            try descriptor.setDirect(true)
        } catch {
            if error.cause != nil { throw error }
            return nil
        }
        memoryAlignment = descriptor.directMemoryAlignment
    }

    /// Whether bytes can be moved from or to that address as they are.
    func takes(_ address: UnsafeRawPointer?) -> Bool { Int(bitPattern: address) % memoryAlignment == 0 }

    /// Writes whole blocks from aligned memory.
    func write(_ blocks: UnsafeRawBufferPointer, at offset: Int) throws(SystemCallError) {
        var done = 0
        var hasStalled = false
        while done < blocks.count {
            let rest = UnsafeRawBufferPointer(rebasing: blocks[done...])
            let count = try orThroughTheCache { () throws(SystemCallError) in
                try descriptor.write(at: offset + done, from: rest)
            }
            if count == 0 { throw SystemCallError(EIO, "pwrite wrote nothing") }
            // What was written of a block is written again: the next call must begin at a block, too.
            let progress = isDirect.load(ordering: .acquiring) ? count / Self.alignment * Self.alignment : count
            // Less than a block, and again less than a block: plain calls continue and learn why.
            if progress == 0, hasStalled { try useTheCache() }
            hasStalled = progress == 0
            done += progress
        }
    }

    /// Fills aligned memory that is whole blocks long; how many bytes came before the end of the file.
    func read(_ blocks: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemCallError) -> Int {
        var done = 0
        // The bytes past the last whole block that the last call brought.
        var remainder = 0
        while done < blocks.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: blocks[done...])
            let count = try orThroughTheCache { () throws(SystemCallError) in
                try descriptor.read(at: offset + done, into: rest)
            }
            let progress = count / Self.alignment * Self.alignment
            done += progress
            // A part of a block ends the file only if a second call brings no more.
            if progress == 0, count == remainder { return done + count }
            remainder = count - progress
        }
        return done
    }

    private func orThroughTheCache<Value>(
        _ call: () throws(SystemCallError) -> Value
    ) throws(SystemCallError) -> Value {
        let wasDirect = isDirect.load(ordering: .acquiring)
        do throws(SystemCallError) {
            return try call()
        } catch {
            guard wasDirect, error.number == EINVAL, error.cause == nil else { throw error }
            try useTheCache()
            return try call()
        }
    }

    /// Several threads may come here at once; the order of the two makes sure that each call after the store is a plain one.
    private func useTheCache() throws(SystemCallError) {
        try descriptor.setDirect(false)
        isDirect.store(false, ordering: .releasing)
    }
}

/// Reads any bytes of a file past the page cache: whole pages straight into the caller's memory where that is aligned, the
/// rest through a buffer.
final class DirectFileReader: Sendable {
    private static let pageByteCount = DirectAccess.alignment

    private let access: DirectAccess

    /// - Parameter descriptor: One of its own: others read through the page cache.
    /// - Returns: `nil` where the file system knows no direct access.
    init?(_ descriptor: FileDescriptor) throws(SystemCallError) {
        guard let access = try DirectAccess(descriptor) else { return nil }
        self.access = access
    }

    /// Reads until `buffer` is full or the file ends; how many bytes that were.
    func readFully(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Int {
        let head = (Self.pageByteCount - offset % Self.pageByteCount) % Self.pageByteCount
        let body = (buffer.count - head) / Self.pageByteCount * Self.pageByteCount
        guard body > 0, access.takes(buffer.baseAddress?.advanced(by: head)) else {
            return try readThroughBuffer(at: offset, into: buffer)
        }
        var done = 0
        for (end, isWhole) in [(head, false), (head + body, true), (buffer.count, false)] where end > done {
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<end])
            let count =
                isWhole
                ? try access.read(part, at: offset + done) : try readThroughBuffer(at: offset + done, into: part)
            done += count
            if done < end { break }
        }
        return done
    }

    private func readThroughBuffer(
        at offset: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(SystemCallError) -> Int {
        var done = 0
        try BounceBuffers.withBuffer { buffer throws(SystemCallError) in
            while done < target.count {
                let skipped = (offset + done) % Self.pageByteCount
                let pages = (skipped + target.count - done).dividedRoundingUp(by: Self.pageByteCount)
                let part = UnsafeMutableRawBufferPointer(
                    rebasing: buffer[..<min(buffer.count, pages * Self.pageByteCount)])
                let count = try access.read(part, at: offset + done - skipped)
                let usable = min(count - skipped, target.count - done)
                guard usable > 0 else { break }
                UnsafeMutableRawBufferPointer(rebasing: target[done...]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: part[skipped..<skipped + usable]))
                done += usable
                if count < part.count { break }
            }
        }
        return done
    }
}

/// Buffers that bytes without alignment are copied through.
enum BounceBuffers {
    /// The size of one buffer: enough to keep a device busy, little enough to stay in a cache, and one huge page.
    private static let byteCount = HugePages.byteCount
    private static let idle = RecyclingPool<AlignedBuffer>(limit: 8)

    /// Calls `body` with a buffer that no other caller uses meanwhile.
    static func withBuffer(
        _ body: (UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Void
    ) throws(SystemCallError) {
        try idle.with(AlignedBuffer(byteCount: byteCount)) { buffer throws(SystemCallError) in try body(buffer.bytes) }
    }
}
