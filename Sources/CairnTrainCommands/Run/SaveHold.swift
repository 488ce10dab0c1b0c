import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A save that stands still when one rank has written half of its bytes, so that the process can be killed in it.
struct SaveHold: Sendable {
    var step: Int
    var rank = 0

    /// What a save calls with the bytes it has just written.
    func progress(byteCount: Int) -> @Sendable (Int) throws -> Void {
        let written = WrittenBytes()
        return { [step] count in
            guard written.total.add(count, ordering: .relaxed).newValue >= byteCount / 2 else { return }
            if !written.isAnnounced.exchange(true, ordering: .relaxed) {
                say("holding the save of step \(step) in process \(getpid())")
            }
            while true { sleep(60) }
        }
    }
}

private final class WrittenBytes: Sendable {
    let total = Atomic(0)
    let isAnnounced = Atomic(false)
}
