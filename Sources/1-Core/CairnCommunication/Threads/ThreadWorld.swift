#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What all groups of a process share: the lock, and who waits for what.
///
/// `@unchecked Sendable`: every mutable property is guarded by `lock`.
final class ThreadWorld: @unchecked Sendable {
    private enum Activity {
        case working
        case waiting(CommunicatorCall, on: WaitCondition)
        case ended
    }

    let lock = WaitLock()
    /// The group of all ranks, which ends when no rank can continue.
    weak var root: ThreadGroup?
    private var activities: [Activity]
    private var threads: [pthread_t?]
    /// Whether each rank calls from one thread only. A rank with several may be woken by one that is still computing.
    private var ranksHaveOneThread = true

    init(size: Int) {
        activities = Array(repeating: .working, count: size)
        threads = Array(repeating: nil, count: size)
    }

    /// Says which thread is that of `rank`. The caller holds the lock.
    func begin(rank: Int) { threads[rank] = pthread_self() }

    /// Says that `rank` makes no more calls. The caller holds the lock.
    func end(rank: Int) {
        activities[rank] = .ended
        failIfStuck()
    }

    /// Waits on `condition` for `call` of `rank`, unless no rank is left that could end the waiting; then all groups
    /// fail. The caller holds the lock, and looks again at what it waits for when this returns.
    func wait(on condition: WaitCondition, rank: Int, call: CommunicatorCall) {
        if let thread = threads[rank], pthread_equal(thread, pthread_self()) != 0 {
            activities[rank] = .waiting(call, on: condition)
            if failIfStuck() { return }
        } else {
            ranksHaveOneThread = false
        }
        condition.wait(lock)
        wake(rank: rank, on: condition)
    }

    /// Says that `rank`, if it waits on `condition`, is about to continue or to look again. The caller holds the lock.
    func wake(rank: Int, on condition: WaitCondition) {
        if case .waiting(_, let awaited) = activities[rank], awaited === condition { activities[rank] = .working }
    }

    @discardableResult
    private func failIfStuck() -> Bool {
        guard ranksHaveOneThread, let root, root.failure == nil else { return false }
        var waits: [String] = []
        var someoneWaits = false
        for (rank, activity) in activities.enumerated() {
            switch activity {
            case .working: return false
            case .ended: waits.append("rank \(rank) has ended")
            case .waiting(let call, _):
                someoneWaits = true
                waits.append("rank \(rank) waits in \(call)")
            }
        }
        guard someoneWaits else { return false }
        root.end(with: .mismatchedCalls("no rank can continue: " + waits.joined(separator: ", ")))
        return true
    }
}

/// A lock, for state that threads wait on with ``WaitCondition``.
///
/// `@unchecked Sendable`: the pointer never changes, and the system's mutex is made for several threads.
final class WaitLock: @unchecked Sendable {
    fileprivate let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    init() { pthread_mutex_init(mutex, nil) }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func lock() { pthread_mutex_lock(mutex) }

    func unlock() { pthread_mutex_unlock(mutex) }
}

/// What threads that hold a ``WaitLock`` wait for.
final class WaitCondition {
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() { pthread_cond_init(condition, nil) }

    deinit {
        pthread_cond_destroy(condition)
        condition.deallocate()
    }

    /// Waits until it is signalled, or for no reason. The caller holds `lock`.
    func wait(_ lock: WaitLock) { pthread_cond_wait(condition, lock.mutex) }

    func wakeAll() { pthread_cond_broadcast(condition) }
}
