#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A block of raw memory: aligned to huge pages or pages when it is large (direct I/O and mapping want that), else to cache
/// lines.
///
/// `@unchecked Sendable`: a bare address; the owner of the block orders the access to it.
package struct AlignedMemory: @unchecked Sendable {
    package static let pageSize = 4096
    /// The size of the machine's memory: it refuses more than that at once, and allocating it would end the process.
    package static let greatestByteCount: Int = {
        let (pages, size) = (sysconf(Int32(_SC_PHYS_PAGES)), sysconf(Int32(_SC_PAGESIZE)))
        let product = pages.multipliedReportingOverflow(by: size)
        return pages > 0 && size > 0 && !product.overflow ? product.partialValue : 1 << 46
    }()

    package let base: UnsafeMutableRawPointer
    package let byteCount: Int
    private let isMapped: Bool

    /// Memory of undefined content.
    package init(byteCount: Int) {
        self.byteCount = byteCount
        if byteCount >= HugePages.byteCount, let mapping = Self.mapHugePages(byteCount) {
            base = mapping
            isMapped = true
        } else {
            base = UnsafeMutableRawPointer.allocate(
                byteCount: max(1, byteCount), alignment: byteCount >= Self.pageSize ? Self.pageSize : 64)
            isMapped = false
        }
    }

    package func deallocate() {
        #if canImport(Glibc)
        if isMapped {
            munmap(base, Self.mappedByteCount(byteCount))
            return
        }
        #endif
        base.deallocate()
    }

    /// Whole pages of any size that Linux can have: mappings are cut at such only. What is not touched takes no memory.
    private static func mappedByteCount(_ byteCount: Int) -> Int {
        byteCount.roundedUp(toMultipleOf: 64 << 10) ?? byteCount
    }

    /// A mapping of its own, because the heap's memory was often touched before, and is on small pages from then on.
    ///
    /// - Returns: `nil` where the system has no huge pages or no room for another mapping.
    private static func mapHugePages(_ byteCount: Int) -> UnsafeMutableRawPointer? {
        #if canImport(Glibc)
        // As much more as it takes to begin at a huge page; what is before and behind is given back.
        let end = mappedByteCount(byteCount)
        guard let length = end.adding(checked: HugePages.byteCount),
            let mapping = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            mapping != MAP_FAILED
        else { return nil }
        let head = (HugePages.byteCount - Int(bitPattern: mapping) % HugePages.byteCount) % HugePages.byteCount
        let base = mapping + head
        if head > 0 { munmap(mapping, head) }
        if length - head > end { munmap(base + end, length - head - end) }
        madvise(base, end, MADV_HUGEPAGE)
        return base
        #else
        return nil
        #endif
    }
}

/// Memory that begins at a page whatever its size, for input and output past the page cache; freed when the last reference
/// goes. Its content is undefined at first, and whoever has it orders the access to it.
package final class AlignedBuffer: Sendable {
    private let memory: AlignedMemory
    package let byteCount: Int

    package init(byteCount: Int) {
        // A smaller block would not begin at a page.
        memory = AlignedMemory(byteCount: max(byteCount, AlignedMemory.pageSize))
        self.byteCount = byteCount
    }

    package var base: UnsafeMutableRawPointer { memory.base }

    package var bytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: byteCount) }

    deinit { memory.deallocate() }
}

/// Memory that several threads use, each its own part.
///
/// `@unchecked Sendable`: its owner hands out parts that do not overlap, and outlives the work on them.
package struct SharedMemory: @unchecked Sendable {
    package let bytes: UnsafeMutableRawBufferPointer

    package init(bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }
}

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
