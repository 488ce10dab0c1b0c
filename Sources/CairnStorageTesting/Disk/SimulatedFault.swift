package import CairnBase

/// What a ``SimulatedDisk`` does at a chosen call instead of what was asked.
package enum SimulatedFault: Sendable, Hashable {
    /// The call fails with this `errno` and changes nothing. A failed `fsync` of a file also forgets what was to be
    /// written: it stays readable and is never written, as on Linux (Rebello et al., USENIX ATC 2020).
    case fail(Int32)
    /// This call and every later one that changes something fail with this `errno`; reading continues.
    case failFromHereOn(Int32)
    /// A read or a write moves only half of the bytes. Other calls are not affected.
    case short
    /// The power goes before the call has an effect: it and every later one throw ``SimulatedDiskStopped``.
    case stopBefore
    /// The power goes after the call took effect, but before its caller learned of it.
    case stopAfter
}

/// The cause of every error of a disk that a ``SimulatedFault`` has stopped.
package struct SimulatedDiskStopped: Error, CustomStringConvertible {
    package var description: String { "the simulated disk has stopped" }
}

extension CairnError {
    /// Whether this error, or one that led to it, is that of a stopped ``SimulatedDisk``.
    package var isSimulatedStop: Bool {
        switch cause {
        case is SimulatedDiskStopped: true
        case let inner as CairnError: inner.isSimulatedStop
        default: false
        }
    }
}
