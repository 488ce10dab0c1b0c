#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The program that wrote a checkpoint.
public enum Producer {
    /// This library's version.
    public static let version = "0.1.0"
    /// What manifests name as their producer.
    static let name = "cairn \(version)"
}

/// Seconds since 1970.
package func currentTime() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}
