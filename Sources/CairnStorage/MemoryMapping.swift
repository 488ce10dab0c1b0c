#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A file mapped read-only into memory, unmapped when the last reference goes.
///
/// The bytes come from the page cache on first touch. Shortening the file while it is mapped makes the process receive
/// SIGBUS on access: storages of this module never shorten a file in place, they replace it.
public final class MemoryMapping: Sendable {
    /// The size of the file in bytes.
    public let byteCount: Int
    /// The first byte, on a page boundary.
    // Safe across threads: the memory is never written and stays mapped as long as this object lives.
    nonisolated(unsafe) package let baseAddress: UnsafeRawPointer
    private let mappedByteCount: Int

    /// Takes over `mappedByteCount` mapped bytes at `baseAddress`, of which the first `byteCount` are the file's.
    package init(adopting baseAddress: UnsafeRawPointer, mappedByteCount: Int, byteCount: Int) {
        self.baseAddress = baseAddress
        self.mappedByteCount = mappedByteCount
        self.byteCount = byteCount
    }

    deinit { munmap(UnsafeMutableRawPointer(mutating: baseAddress), mappedByteCount) }

    /// All bytes of the file.
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            _overrideLifetime(RawSpan(_unsafeStart: baseAddress, byteCount: byteCount), borrowing: self)
        }
    }
}
