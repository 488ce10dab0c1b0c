#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A block of raw memory: aligned to huge pages or pages when it is large (direct I/O and mapping want that), else to cache
/// lines.
///
/// `@unchecked Sendable`: a bare address; whoever owns the block orders the access to it.
struct AlignedMemory: @unchecked Sendable {
    static let pageSize = 4096
    static let hugePageSize = 2 << 20
    /// The size of the machine's memory: it refuses more than that at once, and allocating it would end the process.
    static let greatestByteCount: Int = {
        let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
        let product = pages.multipliedReportingOverflow(by: size)
        return pages > 0 && size > 0 && !product.overflow ? product.partialValue : 1 << 46
    }()

    let base: UnsafeMutableRawPointer
    let byteCount: Int

    init(byteCount: Int) {
        let alignment = if byteCount >= Self.hugePageSize { Self.hugePageSize } else if byteCount >= Self.pageSize {
            Self.pageSize
        } else {
            64
        }
        base = UnsafeMutableRawPointer.allocate(byteCount: max(1, byteCount), alignment: alignment)
        self.byteCount = byteCount
        #if canImport(Glibc)
        // The first touch of huge pages is several times cheaper, and so is direct I/O: each page is pinned, and let go
        // of in an interrupt that takes time from whatever computes there.
        if byteCount >= Self.hugePageSize { madvise(base, byteCount, MADV_HUGEPAGE) }
        #endif
    }

    func deallocate() { base.deallocate() }
}
