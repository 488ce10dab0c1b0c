import CHDF5Calls
import CairnBase

/// What HDF5 writes of a file's description, kept in memory page by page; the elements never come here.
///
/// Only touched with the library's lock held.
final class MetadataPages {
    private static let pageByteCount = 1 << 14
    private var pages: [Int: [UInt8]] = [:]

    /// The source through which HDF5 writes here, valid as long as this object lives.
    func source(token: UInt64) -> cairn_h5_source {
        cairn_h5_source(
            context: Unmanaged.passUnretained(self).toOpaque(), byte_count: 0,
            read: { context, offset, byteCount, buffer, _ in
                guard let context, let buffer, let offset = Int(exactly: offset) else { return -1 }
                Unmanaged<MetadataPages>.fromOpaque(context).takeUnretainedValue()
                    .read(at: offset, UnsafeMutableRawBufferPointer(start: buffer, count: byteCount))
                return 0
            },
            write: { context, offset, byteCount, buffer in
                guard let context, let buffer, let offset = Int(exactly: offset) else { return -1 }
                Unmanaged<MetadataPages>.fromOpaque(context).takeUnretainedValue()
                    .write(at: offset, UnsafeRawBufferPointer(start: buffer, count: byteCount))
                return 0
            }, token: token)
    }

    /// The pages in order, each with its offset.
    var sorted: [(offset: Int, bytes: [UInt8])] {
        pages.sorted { $0.key < $1.key }.map { ($0.key * Self.pageByteCount, $0.value) }
    }

    /// A little-endian number.
    func integer(at offset: Int, byteCount: Int) -> Int? {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        bytes.withUnsafeMutableBytes { read(at: offset, $0) }
        return ByteFields(bytes).integer(0, byteCount)
    }

    private func read(at offset: Int, _ buffer: UnsafeMutableRawBufferPointer) {
        Self.forEachPage(offset, buffer.count) { page, within, part in
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[part])
            if let bytes = pages[page] {
                bytes.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[within])) }
            } else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
    }

    private func write(at offset: Int, _ buffer: UnsafeRawBufferPointer) {
        Self.forEachPage(offset, buffer.count) { page, within, part in
            pages[page, default: [UInt8](repeating: 0, count: Self.pageByteCount)].withUnsafeMutableBytes {
                UnsafeMutableRawBufferPointer(rebasing: $0[within])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[part]))
            }
        }
    }

    /// Calls `body` for each page of a range with the place in the page and the place in the range.
    private static func forEachPage(_ offset: Int, _ byteCount: Int, _ body: (Int, Range<Int>, Range<Int>) -> Void) {
        var done = 0
        while done < byteCount {
            let (page, start) = (offset + done).quotientAndRemainder(dividingBy: pageByteCount)
            let count = min(pageByteCount - start, byteCount - done)
            body(page, start..<start + count, done..<done + count)
            done += count
        }
    }
}
