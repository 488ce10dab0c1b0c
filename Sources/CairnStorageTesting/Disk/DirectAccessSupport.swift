import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What a ``SimulatedDisk`` does with reads and writes that are to pass by the page cache. What they write is as little
/// durable as anything else before an `fsync`: it may be in the device's own cache.
package enum DirectAccessSupport: Sendable, Hashable, CaseIterable {
    /// Takes them if offset and length are multiples of 4096 and the address one of 512.
    case aligned
    /// Lets a descriptor be set up for them and then refuses each.
    case refusedByCalls
    /// Knows none.
    case refused
}

extension SimulatedDiskState {
    /// Throws as a file system does that cannot move these bytes past the page cache.
    mutating func checkDirect(_ descriptor: Int32, _ isAligned: Bool, _ call: String) throws(SystemCallError) {
        guard direct.contains(descriptor) else { return }
        guard isAligned, directAccess == .aligned else { throw SystemCallError(EINVAL, call) }
        directCallCount += 1
    }
}
