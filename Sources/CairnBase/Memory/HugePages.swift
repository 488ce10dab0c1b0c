/// Pages of 2 MiB, which the system can put a large aligned block of memory on instead of many of 4 KiB.
///
/// Their first touch is several times cheaper. Direct I/O, too: it pins every page that it moves bytes from and releases
/// it in an interrupt, which takes time from whatever computes on that processor.
package enum HugePages {
    /// The size of one on x86-64, and on arm64 with pages of 4 KiB.
    package static let byteCount = 2 << 20

    /// The part of a block, in bytes from its begin, that can be on huge pages; empty if it fills none.
    package static func range(of block: UnsafeRawBufferPointer) -> Range<Int> {
        let begin = (byteCount - Int(bitPattern: block.baseAddress) % byteCount) % byteCount
        guard begin < block.count else { return 0..<0 }
        return begin..<begin + (block.count - begin) / byteCount * byteCount
    }
}
