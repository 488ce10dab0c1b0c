import CairnBase

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
            let count = isWhole
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
        try BounceBuffers.shared.withBuffer { buffer throws(SystemCallError) in
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
