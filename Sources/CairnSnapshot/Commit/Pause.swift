#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Pauses between looks at a storage: short ones at first, then longer ones, until a time is up.
struct Pause {
    private let deadline: ContinuousClock.Instant
    private var milliseconds: UInt32 = 1

    init(upTo duration: Duration) { deadline = .now + duration }

    /// Sleeps for a while on this thread; false, at once, when the time is up.
    mutating func sleep() -> Bool {
        guard ContinuousClock.now < deadline else { return false }
        usleep(milliseconds * 1000)
        milliseconds = min(50, milliseconds * 2)
        return true
    }
}
