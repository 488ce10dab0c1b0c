import Synchronization

/// The states a ``SimulatedDisk`` went through: every moment at which the power could have gone.
///
/// Copies of a disk cost little, so one run of a test's work gives all crash points; running it again up to each of
/// them would take quadratic time.
struct CrashHistory: Sendable {
    private(set) var points: [CrashPoint]
    private var milestone = 0

    init(start: SimulatedDiskState) {
        points = [CrashPoint(state: start, call: 0, name: "the start", milestone: 0)]
    }

    mutating func record(_ state: SimulatedDiskState, after name: String, call: Int) {
        points.append(CrashPoint(state: state, call: call, name: name, milestone: milestone))
    }

    /// Notes that the caller has been told something: the state is that of the last point, what may be lost is not.
    mutating func pass(_ state: SimulatedDiskState, call: Int) {
        milestone += 1
        points.append(CrashPoint(state: state, call: call, name: "milestone \(milestone)", milestone: milestone))
    }
}

/// A moment at which the power could go.
package struct CrashPoint: Sendable, CustomStringConvertible {
    let state: SimulatedDiskState
    /// The number of the last call that took effect.
    package let call: Int
    let name: String
    /// How often ``SimulatedDisk/passMilestone()`` was called before.
    package let milestone: Int

    /// The disk that the next boot finds.
    package func crash(_ policy: CrashPolicy, seed: UInt64) -> SimulatedDisk {
        SimulatedDisk(state.crashed(policy, seed: seed))
    }

    package var description: String { "after call \(call) (\(name)), milestone \(milestone)" }
}

extension SimulatedDisk {
    /// From now on every state of the disk is remembered for ``crashPoints``.
    package func startHistory() {
        machine.withLock { $0.history = CrashHistory(start: $0.disk) }
    }

    /// Notes that something is promised to last from here on: ``CrashPoint/milestone`` counts these.
    package func passMilestone() {
        machine.withLock { $0.history?.pass($0.disk, call: $0.callCount) }
    }

    /// Every moment since ``startHistory()`` at which the power could have gone: the start and after each call that
    /// changed something.
    package var crashPoints: [CrashPoint] { machine.withLock { $0.history?.points ?? [] } }
}
