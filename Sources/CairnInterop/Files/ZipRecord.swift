package import CairnBase
package import CairnStorage
import Synchronization

/// A record of a zip archive, as a file of its own.
///
/// Its checksum is verified when all of it has been read, at once or in pieces; the read that completes it throws
/// ``CairnError/Code/corrupted`` when the checksum differs. A small deflated record is expanded, and verified, at the
/// first read; a large one is expanded as it is read, a little more than is asked for where that jumps.
package final class ZipRecord: StorageFile {
    /// The name of the archive's file.
    package let key: String
    /// What the directory says of the record.
    package let entry: ZipArchive.Entry
    /// Where its bytes begin in the archive.
    package let dataOffset: Int
    package var byteCount: Int { entry.byteCount }

    private let file: any StorageFile
    /// What expands a record that is too large to be kept.
    private let inflated: InflatedFile?

    /// The most bytes of an expanded record that are kept in memory.
    private static let greatestHeld = 4 << 20

    private struct State {
        var progress: ChecksumProgress
        var isVerified: Bool
        var expanded: [UInt8]?
    }

    private let state: Mutex<State>

    init(_ entry: ZipArchive.Entry, of file: any StorageFile) throws(CairnError) {
        key = file.key
        self.entry = entry
        self.file = file
        let header = ByteReader(bytes: try file.bytes(in: entry.headerOffset..<entry.headerOffset + 30))
        guard header.u32(at: 0) == 0x0403_4B50, let nameLength = header.u16(at: 26),
            let extraLength = header.u16(at: 28)
        else {
            throw CairnError(
                .malformed, "there is no zip record where the directory says",
                .init(file: key, offset: entry.headerOffset, expected: entry.name.debugDescription))
        }
        dataOffset = entry.headerOffset + 30 + nameLength + extraLength
        guard dataOffset + entry.storedByteCount <= entry.limit else {
            throw CairnError(
                .malformed, "a zip record overlaps another or the directory",
                .init(file: key, offset: entry.headerOffset, found: entry.name.debugDescription))
        }
        inflated =
            entry.isDeflated && entry.byteCount > Self.greatestHeld
            ? InflatedFile(
                try FileWindow(file, offset: dataOffset, byteCount: entry.storedByteCount), byteCount: entry.byteCount)
            : nil
        state = Mutex(State(
            progress: ChecksumProgress(byteCount: entry.byteCount),
            isVerified: entry.checksum == nil || entry.byteCount == 0))
    }

    package func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a record of the zip archive ends too early",
                .init(
                    file: key, offset: dataOffset, expected: "\(offset) + \(destination.byteCount) bytes",
                    found: "\(entry.name) of \(byteCount)"))
        }
        if let inflated {
            try inflated.read(at: offset, into: &destination)
            try compare(inflated.checksum)
            return
        }
        if entry.isDeflated {
            let bytes = try expanded()
            bytes.withUnsafeBytes { source in
                destination.withUnsafeMutableBytes { target in
                    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + target.count]))
                }
            }
            if offset + destination.byteCount == byteCount { release() }
            return
        }
        try file.read(at: dataOffset + offset, into: &destination)
        guard state.withLock({ !$0.isVerified }) else { return }
        let range = offset..<offset + destination.byteCount
        let checksum = CRC32.checksum(destination.bytes)
        let whole = state.withLock { $0.progress.add(range, checksum) }
        try compare(whole)
    }

    /// Gives back the memory of what is expanded.
    package func release() {
        inflated?.release()
        state.withLock { $0.expanded = nil }
    }

    /// Takes note of the checksum of the whole record once it is known.
    private func compare(_ whole: UInt32?) throws(CairnError) {
        guard let whole, state.withLock({ !$0.isVerified }) else { return }
        guard whole == entry.checksum else {
            state.withLock { $0.progress = ChecksumProgress(byteCount: byteCount) }
            throw mismatch(whole)
        }
        state.withLock { $0.isVerified = true }
    }

    package func map() throws(CairnError) -> MemoryMapping? { nil }

    /// Reads all of the record, whatever of it was read before, and compares its checksum.
    ///
    /// - Parameter progress: Called with the number of bytes just read; throwing stops.
    /// - Returns: What is wrong, `nil` for nothing.
    /// - Throws: What `progress` throws.
    package func damage(progress: (Int) throws -> Void) throws -> CairnError? {
        defer { release() }
        let step = 4 << 20
        var checksum: UInt32 = 0
        for begin in stride(from: 0, to: byteCount, by: step) {
            let end = min(begin + step, byteCount)
            let bytes: [UInt8]
            do throws(CairnError) {
                bytes = try plain(begin..<end)
            } catch {
                return error
            }
            checksum = CRC32.combine(checksum, CRC32.checksum(bytes.span.bytes), secondByteCount: bytes.count)
            try progress(bytes.count)
        }
        guard byteCount > 0, let expected = entry.checksum, expected != checksum else { return nil }
        return mismatch(checksum)
    }

    /// Bytes of the record, whatever their checksum.
    private func plain(_ range: Range<Int>) throws(CairnError) -> [UInt8] {
        if let inflated { return try inflated.bytes(in: range) }
        if entry.isDeflated { return Array(try expanded()[range]) }
        return try file.bytes(in: dataOffset + range.lowerBound..<dataOffset + range.upperBound)
    }

    private func expanded() throws(CairnError) -> [UInt8] {
        if let bytes = state.withLock({ $0.expanded }) { return bytes }
        let source = try file.bytes(in: dataOffset..<dataOffset + entry.storedByteCount)
        guard let bytes = Inflation.expand(source, byteCount: byteCount) else {
            throw CairnError(
                .corrupted, "a compressed record of the zip archive is damaged",
                .init(file: key, offset: dataOffset, found: entry.name.debugDescription))
        }
        let checksum = CRC32.checksum(bytes.span.bytes)
        if let expected = entry.checksum, expected != checksum { throw mismatch(checksum) }
        state.withLock { $0.expanded = bytes }
        return bytes
    }

    private func mismatch(_ found: UInt32) -> CairnError {
        func text(_ checksum: UInt32) -> String {
            let digits = String(checksum, radix: 16)
            return "0x" + String(repeating: "0", count: 8 - digits.utf8.count) + digits
        }
        return CairnError(
            .corrupted, "the CRC-32 of the record \(entry.name.debugDescription) differs: its bytes were changed",
            .init(
                file: key, offset: dataOffset, expected: entry.checksum.map(text), found: text(found),
                advice: "take another copy"))
    }
}
