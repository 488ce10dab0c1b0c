#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Threads for blocking calls and heavy loops, apart from Swift's cooperative pool.
///
/// The cooperative pool has one thread a core: a `pread` or an `fsync` on it freezes every other task. A pool of our own
/// does not, and being a `TaskExecutor` it can also carry a whole `async` call tree
/// (`withTaskExecutorPreference(pool) { … }`).
package final class ThreadPool: TaskExecutor {
    private enum Job: Sendable {
        case task(UnownedJob)
        case closure(@Sendable () -> Void)
    }

    private let queue = BlockingQueue<Job>()
    /// How many threads serve the pool.
    package let threadCount: Int

    /// One pool for the whole process, with as many threads as the machine has processors, at least two.
    package static let shared = ThreadPool(threadCount: max(2, processorCount))

    /// More threads than processors, for calls that mostly wait for a device.
    package static let waiting = ThreadPool(threadCount: max(8, processorCount))

    /// How many large reads at once bring out what a device can do: more than a small machine has processors.
    package static let usefulReadCount = max(4, processorCount)

    /// The processors this machine has online.
    package static let processorCount = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))

    /// Starts `threadCount` threads (at least one). They end when the pool is released.
    package init(threadCount: Int) {
        self.threadCount = max(1, threadCount)
        for _ in 0..<self.threadCount {
            let queue = self.queue
            let executor = asUnownedTaskExecutor()
            startThread {
                while let job = queue.pop() {
                    switch job {
                    case .task(let task): task.runSynchronously(on: executor)
                    case .closure(let work): work()
                    }
                }
            }
        }
    }

    deinit { queue.close() }

    package func enqueue(_ job: consuming ExecutorJob) {
        queue.push(.task(UnownedJob(job)))
    }

    /// Runs blocking `work` on a thread of the pool, some time.
    package func submit(_ work: @escaping @Sendable () -> Void) { queue.push(.closure(work)) }

    /// Runs blocking `work` on a thread of the pool.
    package func run<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.push(.closure { continuation.resume(with: Result(catching: work)) })
        }
    }

    /// Calls `body` once for each index below `count`, on up to `width` threads of which the caller is one, and returns
    /// when all are done.
    ///
    /// Indices are handed out in ascending order. After the first error no new index is started, and that error is
    /// thrown once the running ones are done. The caller always takes part, so nested calls cannot deadlock.
    package func forEach(
        _ count: Int, width: Int = .max, _ body: @escaping @Sendable (Int) throws -> Void
    ) throws {
        guard count > 0 else { return }
        let helpers = min(count, width, threadCount + 1) - 1
        if helpers <= 0 {
            for index in 0..<count { try body(index) }
            return
        }
        let loop = SharedLoop(count: count)
        for _ in 0..<helpers { queue.push(.closure { loop.work(body) }) }
        loop.work(body)
        try loop.wait()
    }
}

/// One `ThreadPool.forEach`.
private final class SharedLoop: Sendable {
    private struct Progress {
        var next = 0
        /// How many indices are worked on.
        var running = 0
        var firstError: (any Error)?
    }

    private let count: Int
    private let progress = Monitor(Progress())

    init(count: Int) { self.count = count }

    /// Takes indices until there are none left. A helper that comes late finds none and returns at once.
    func work(_ body: (Int) throws -> Void) {
        while let index = take() {
            do {
                try body(index)
                finish(nil)
            } catch {
                finish(error)
            }
        }
    }

    /// Returns when no index is being worked on and none will be.
    ///
    /// - Throws: The first error.
    func wait() throws {
        progress.wait { $0.running == 0 ? () : nil }
        if let error = progress.read({ $0.firstError }) { throw error }
    }

    private func take() -> Int? {
        progress.change(waking: .none) { progress in
            guard progress.next < count else { return nil }
            defer { progress.next += 1 }
            progress.running += 1
            return progress.next
        }
    }

    private func finish(_ error: (any Error)?) {
        progress.change { progress in
            progress.running -= 1
            guard let error else { return }
            if progress.firstError == nil { progress.firstError = error }
            progress.next = count
        }
    }
}

/// Starts a detached thread that runs `body` once.
package func startThread(_ body: @escaping @Sendable () -> Void) {
    // Without a thread the work would never run; running it here keeps the program correct, if slower.
    if !startThreadIfPossible(body) { body() }
}

/// Starts a detached thread that runs `body` once; false, without a call of `body`, where the system gives none.
package func startThreadIfPossible(_ body: @escaping @Sendable () -> Void) -> Bool {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 8 << 20)
    let argument = Unmanaged.passRetained(Box(body)).toOpaque()
    #if canImport(Darwin)
    var thread: pthread_t?
    let result = pthread_create(
        &thread, &attributes,
        { raw in
            Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body()
            return nil
        }, argument)
    #else
    var thread = pthread_t()
    let result = pthread_create(
        &thread, &attributes,
        { raw in
            if let raw { Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body() }
            return nil
        }, argument)
    #endif
    if result != 0 { Unmanaged<Box>.fromOpaque(argument).release() }
    return result == 0
}

/// Runs `work` on a thread of its own without blocking the calling task's: for calls that wait for others, of which any number
/// may have to be under way at once.
package func runOnThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        startThread { continuation.resume(with: Result(catching: work)) }
    }
}

/// Runs one piece of work at a time on another thread, while the caller prepares the next.
///
/// ```swift
/// let writing = OverlappedWork()
/// for part in parts {
///     let bytes = try read(part)
///     try writing.start { try write(bytes) }
/// }
/// try writing.wait()
/// ```
package final class OverlappedWork: Sendable {
    private struct State {
        var isBusy = false
        var failure: (any Error)?
    }

    private let state = Monitor(State())

    package init() {}

    deinit { state.wait { $0.isBusy ? nil : () } }

    /// Waits until the previous work is done and starts the next.
    ///
    /// - Throws: The error of the previous work; the next is then not started.
    package func start(_ work: @escaping @Sendable () throws -> Void) throws {
        try wait()
        state.change { $0.isBusy = true }
        ThreadPool.waiting.submit { [state] in
            var failure: (any Error)?
            do {
                try work()
            } catch {
                failure = error
            }
            state.change { $0 = State(isBusy: false, failure: failure) }
        }
    }

    /// Waits until no work is running.
    ///
    /// - Throws: The error of the last work, once.
    package func wait() throws {
        let failure = state.wait { state -> (any Error)?? in
            guard !state.isBusy else { return nil }
            defer { state.failure = nil }
            return .some(state.failure)
        }
        if let failure, let failure { throw failure }
    }
}
