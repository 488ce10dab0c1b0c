#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// State behind a lock, and threads that wait until it has changed.
///
/// `@unchecked Sendable`: every access to `state` holds `mutex`.
package final class Monitor<State>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State

    package init(_ state: sending State) {
        self.state = state
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Looks at the state.
    package func read<Result>(_ body: (State) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(state)
    }

    /// Which of the threads that wait for the state look at it again after a change.
    package enum Waking { case none, one, all }

    /// Changes the state and wakes threads that wait for it.
    package func change<Result, Failure: Error>(
        waking: Waking = .all, _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_mutex_unlock(mutex)
            switch waking {
            case .none: break
            case .one: pthread_cond_signal(condition)
            case .all: pthread_cond_broadcast(condition)
            }
        }
        return try body(&state)
    }

    /// Calls `body` with the state at once and after every change, until it gives a result or `deadline` has passed.
    ///
    /// - Returns: The result, or `nil` when the deadline came first.
    package func wait<Result>(
        until deadline: ContinuousClock.Instant? = nil, for body: (inout State) throws -> Result?
    ) rethrows -> Result? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = try body(&state) { return result }
            guard let deadline else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            let rest = deadline - .now
            guard rest > .zero else { return nil }
            // In slices, because the system's timeout goes by a clock that may be set.
            waitAtMost(min(rest, .milliseconds(100)))
        }
    }

    private func waitAtMost(_ duration: Duration) {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let nanoseconds = Int(duration.components.attoseconds / 1_000_000_000) + time.tv_nsec
        time.tv_sec += Int(duration.components.seconds) + nanoseconds / 1_000_000_000
        time.tv_nsec = nanoseconds % 1_000_000_000
        pthread_cond_timedwait(condition, mutex, &time)
    }
}

/// A first-in first-out queue that threads wait on.
package final class BlockingQueue<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element?] = []
        var head = 0
        var isClosed = false
    }

    private let state = Monitor(State())

    package init() {}

    /// Appends `element` and wakes one waiter. After ``close()`` it does nothing.
    package func push(_ element: Element) {
        state.change(waking: .one) { if !$0.isClosed { $0.elements.append(element) } }
    }

    /// The oldest element, waiting for one; `nil` once the queue is closed and empty.
    package func pop() -> Element? {
        let popped = state.wait { state -> Element?? in
            guard state.head < state.elements.count else { return state.isClosed ? .some(nil) : nil }
            let element = state.elements[state.head]
            state.elements[state.head] = nil
            state.head += 1
            if state.head == state.elements.count {
                state.elements.removeAll(keepingCapacity: true)
                state.head = 0
            }
            return .some(element)
        }
        return popped ?? nil
    }

    /// Lets every waiter go once the queue is empty.
    package func close() { state.change { $0.isClosed = true } }
}
