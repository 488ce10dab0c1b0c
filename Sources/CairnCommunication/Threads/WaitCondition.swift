#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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
