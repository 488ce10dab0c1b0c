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
