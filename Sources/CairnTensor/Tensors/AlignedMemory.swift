#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A block of raw memory, page-aligned when it is large (direct I/O and mapping want that), else cache-line aligned.
///
/// `@unchecked Sendable`: a bare address; whoever owns the block orders the access to it.
struct AlignedMemory: @unchecked Sendable {
    static let pageSize = 4096
    /// The size of the machine's memory: it refuses more than that at once, and allocating it would end the process.
    static let greatestByteCount: Int = {
        let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
        let product = pages.multipliedReportingOverflow(by: size)
        return pages > 0 && size > 0 && !product.overflow ? product.partialValue : 1 << 46
    }()

    let base: UnsafeMutableRawPointer
    let byteCount: Int

    init(byteCount: Int) {
        let large = byteCount >= Self.pageSize
        base = UnsafeMutableRawPointer.allocate(byteCount: max(1, byteCount), alignment: large ? Self.pageSize : 64)
        self.byteCount = byteCount
        #if canImport(Glibc)
        // Huge pages make the first touch of large blocks several times cheaper.
        if byteCount >= 4 << 20 { madvise(base, byteCount, MADV_HUGEPAGE) }
        #endif
    }

    func deallocate() { base.deallocate() }
}
