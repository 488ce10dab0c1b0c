import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Writes any bytes to a file past the page cache.
///
/// Whole pages go straight to the file, from the caller's memory where that is aligned, else through a buffer. The pages
/// that a write covers in part are put together in memory and written when they are full, when they become too many, or at
/// the end. So *no* byte goes through the page cache, and nothing rests on how an operating system keeps buffered and
/// direct writes to neighbouring bytes apart.
///
/// A page that is put together begins as what the file holds of it. That makes it right to write and forget it at any
/// moment, however writes follow and overlap each other.
final class DirectFileWriter: Sendable {
    /// A page that was written in part.
    private struct Page {
        var buffer: AlignedBuffer
        /// How many bytes came. It may count some of them twice, so it decides when to write, never what.
        var written = 0
    }

    /// More incomplete pages than this are not kept.
    private static let pageLimit = 1024
    private static let pageByteCount = DirectAccess.alignment

    private let access: DirectAccess
    /// The incomplete pages by their number. Calls on the file that concern them are made under the lock.
    private let pages = Mutex<[Int: Page]>([:])

    /// `nil` where the file system knows no direct access.
    init?(_ descriptor: FileDescriptor) throws(SystemCallError) {
        guard let access = try DirectAccess(descriptor) else { return nil }
        self.access = access
    }

    /// Writes `bytes` at `offset`. Several threads may write disjoint ranges at once.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemCallError) {
        let end = offset + bytes.count
        guard let begin = offset.roundedUp(toMultipleOf: Self.pageByteCount) else {
            throw SystemCallError(EFBIG, "pwrite")
        }
        let wholeEnd = end / Self.pageByteCount * Self.pageByteCount
        guard begin < wholeEnd else { return try writeParts(bytes, at: offset) }
        try writeParts(UnsafeRawBufferPointer(rebasing: bytes[..<(begin - offset)]), at: offset)
        try writeWhole(UnsafeRawBufferPointer(rebasing: bytes[(begin - offset)..<(wholeEnd - offset)]), at: begin)
        try writeParts(UnsafeRawBufferPointer(rebasing: bytes[(wholeEnd - offset)...]), at: wholeEnd)
    }

    /// Writes the pages that are still incomplete. The file may become longer than its bytes: up to the next page.
    func flush() throws(SystemCallError) {
        try pages.withLock { pages throws(SystemCallError) in
            for number in pages.keys.sorted() { try flush(number, &pages) }
        }
    }

    private func writeWhole(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemCallError) {
        let numbers = offset / Self.pageByteCount..<(offset + bytes.count) / Self.pageByteCount
        // Whatever they held is written over as a whole.
        pages.withLock { pages in
            for number in pages.keys where numbers.contains(number) { pages[number] = nil }
        }
        if access.takes(bytes.baseAddress) { return try access.write(bytes, at: offset) }
        try BounceBuffers.shared.withBuffer { buffer throws(SystemCallError) in
            for begin in stride(from: 0, to: bytes.count, by: buffer.count) {
                let part = UnsafeRawBufferPointer(rebasing: bytes[begin..<min(bytes.count, begin + buffer.count)])
                buffer.copyMemory(from: part)
                try access.write(UnsafeRawBufferPointer(rebasing: buffer[..<part.count]), at: offset + begin)
            }
        }
    }

    /// Writes bytes that cover none of their pages as a whole: at most two pages.
    private func writeParts(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemCallError) {
        var done = 0
        while done < bytes.count {
            let (number, begin) = (offset + done).quotientAndRemainder(dividingBy: Self.pageByteCount)
            let count = min(bytes.count - done, Self.pageByteCount - begin)
            // Read under the lock and not kept.
            nonisolated(unsafe) let part = UnsafeRawBufferPointer(rebasing: bytes[done..<done + count])
            try pages.withLock { pages throws(SystemCallError) in
                var page = if let page = pages[number] { page } else { try load(number) }
                UnsafeMutableRawBufferPointer(rebasing: page.buffer.bytes[begin...]).copyMemory(from: part)
                page.written += count
                pages[number] = page
                if page.written >= Self.pageByteCount { try flush(number, &pages) }
                if pages.count > Self.pageLimit, let first = pages.keys.min() { try flush(first, &pages) }
            }
            done += count
        }
    }

    /// A page as the file has it, zeros where the file has ended.
    private func load(_ number: Int) throws(SystemCallError) -> Page {
        let buffer = AlignedBuffer(byteCount: Self.pageByteCount)
        let count = try access.read(buffer.bytes, at: number * Self.pageByteCount)
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[count...]).initializeMemory(as: UInt8.self, repeating: 0)
        return Page(buffer: buffer)
    }

    private func flush(_ number: Int, _ pages: inout [Int: Page]) throws(SystemCallError) {
        guard let page = pages[number] else { return }
        try access.write(UnsafeRawBufferPointer(page.buffer.bytes), at: number * Self.pageByteCount)
        pages[number] = nil
    }
}
