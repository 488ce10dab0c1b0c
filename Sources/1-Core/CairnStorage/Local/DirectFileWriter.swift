import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Writes any bytes to a new file past the page cache.
///
/// Whole pages go straight to the file, from the caller's memory where that can be on huge pages, else through a buffer.
/// The pages that a write covers in part are put together in memory, and written when they become many and at the end. So
/// *no* byte goes through the page cache, and nothing rests on how an operating system keeps buffered and direct writes to
/// neighbouring bytes apart.
///
/// A page that is put together begins as what the file holds of it. That makes it right to write and forget it at any
/// moment, however writes follow and overlap each other.
final class DirectFileWriter: Sendable {
    private struct State {
        /// The pages that are put together, by their number.
        var pages: [Int: AlignedBuffer] = [:]
        /// The pages that the file holds something of. The others are zeros: no other writer writes to the file.
        var written = RangeSet<Int>()
    }

    /// With so many large writes under way, the device always has one to work on while others are prepared.
    static let usefulConcurrency = 4
    /// More pages than this are not kept in memory.
    private static let pageLimit = 1024
    private static let pageByteCount = DirectAccess.alignment

    private let access: DirectAccess
    /// Calls on the file that concern the pages put together are made under the lock.
    private let state = Mutex(State())

    /// - Parameter descriptor: Of a file that is empty and has no other writer.
    /// - Returns: `nil` where the file system knows no direct access.
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

    /// Writes the pages that are kept in memory. The file may become longer than its bytes: up to the next page.
    func flush() throws(SystemCallError) {
        try state.withLock { state throws(SystemCallError) in try flush(&state) }
    }

    private func writeWhole(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemCallError) {
        let numbers = offset / Self.pageByteCount..<(offset + bytes.count) / Self.pageByteCount
        state.withLock { state in
            // Whatever they held is written over as a whole.
            for number in state.pages.keys where numbers.contains(number) { state.pages[number] = nil }
            state.written.insert(contentsOf: numbers)
        }
        // Pinning small pages takes time from whatever computes where they are released; a copy takes it from this thread.
        let direct = HugePages.range(of: bytes)
        guard !direct.isEmpty, direct.lowerBound % Self.pageByteCount == 0 else { return try writeCopied(bytes, at: offset) }
        try writeCopied(UnsafeRawBufferPointer(rebasing: bytes[..<direct.lowerBound]), at: offset)
        try access.write(UnsafeRawBufferPointer(rebasing: bytes[direct]), at: offset + direct.lowerBound)
        try writeCopied(UnsafeRawBufferPointer(rebasing: bytes[direct.upperBound...]), at: offset + direct.upperBound)
    }

    /// Writes whole pages through a buffer.
    private func writeCopied(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemCallError) {
        guard !bytes.isEmpty else { return }
        try BounceBuffers.withBuffer { buffer throws(SystemCallError) in
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
            try state.withLock { state throws(SystemCallError) in
                if state.pages[number] == nil, state.pages.count >= Self.pageLimit { try flush(&state) }
                let page = if let page = state.pages[number] { page } else { try load(number, state.written) }
                UnsafeMutableRawBufferPointer(rebasing: page.bytes[begin...]).copyMemory(from: part)
                state.pages[number] = page
            }
            done += count
        }
    }

    /// A page as the file has it, zeros where the file has nothing.
    private func load(_ number: Int, _ written: RangeSet<Int>) throws(SystemCallError) -> AlignedBuffer {
        let buffer = AlignedBuffer(byteCount: Self.pageByteCount)
        let count =
            written.contains(number)
            ? try access.read(buffer.bytes, at: number * Self.pageByteCount) : 0
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[count...]).initializeMemory(as: UInt8.self, repeating: 0)
        return buffer
    }

    /// Writes all pages that are kept, neighbours together: small fragments lie side by side.
    private func flush(_ state: inout State) throws(SystemCallError) {
        var numbers = RangeSet<Int>()
        for number in state.pages.keys.sorted() { numbers.insert(contentsOf: number..<number + 1) }
        let pages = state.pages
        try BounceBuffers.withBuffer { buffer throws(SystemCallError) in
            for run in numbers.ranges {
                let step = buffer.count / Self.pageByteCount
                for first in stride(from: run.lowerBound, to: run.upperBound, by: step) {
                    let part = first..<min(run.upperBound, first + step)
                    for number in part {
                        guard let page = pages[number] else { continue }
                        let begin = (number - first) * Self.pageByteCount
                        UnsafeMutableRawBufferPointer(rebasing: buffer[begin...])
                            .copyMemory(from: UnsafeRawBufferPointer(page.bytes))
                    }
                    let blocks = UnsafeRawBufferPointer(rebasing: buffer[..<(part.count * Self.pageByteCount)])
                    try access.write(blocks, at: first * Self.pageByteCount)
                }
            }
        }
        state.written.formUnion(numbers)
        state.pages = [:]
    }
}
