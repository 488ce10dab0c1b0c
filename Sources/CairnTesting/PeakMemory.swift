#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How much memory this process has had at once. Only a process of a test's own says something by it.
package enum PeakMemory {
    /// The greatest resident size so far, in bytes.
    package static var byteCount: Int {
        var usage = rusage()
        #if canImport(Glibc)
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
        return Int(usage.ru_maxrss) * 1024
        #else
        guard getrusage(RUSAGE_SELF, &usage) == 0 else { return 0 }
        return Int(usage.ru_maxrss)
        #endif
    }

    /// Runs something and ends the process when the peak grew by more than `limit` bytes.
    package static func requireGrowth(below limit: Int, _ body: () throws -> Void) rethrows {
        let before = byteCount
        try body()
        let growth = byteCount - before
        precondition(growth < limit, "\(growth >> 20) MiB more instead of at most \(limit >> 20)")
    }
}
