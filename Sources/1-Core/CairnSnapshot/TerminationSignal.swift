import CairnBase
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A request to end the process, such as the SIGTERM that comes before a machine is taken away.
///
/// Training looks at ``isRequested`` after each step, takes a last snapshot and drains; a loop that never looks can have what
/// is in flight saved with `drain(_:upTo:)`. Without either, the signal ends the process as it always did.
public final class TerminationSignal: Sendable {
    private struct State {
        var isRequested = false
        var handlers: [@Sendable () -> Void] = []
    }

    /// The signals of this process. There is one handler for each, so there is one object.
    public static let shared = TerminationSignal()

    private let state = Monitor(State())
    private let isWatching = Atomic(false)

    private init() {}

    /// Whether the process has been asked to end since ``watch(also:)``.
    public var isRequested: Bool { state.read(\.isRequested) }

    /// Takes over SIGTERM, and other signals if asked to: from now on they are noted instead of ending the process.
    public func watch(also others: [Int32] = []) {
        guard !isWatching.exchange(true, ordering: .acquiringAndReleasing) else { return }
        var descriptors: [Int32] = [-1, -1]
        guard pipe(&descriptors) == 0 else { return }
        signalPipe.store(descriptors[1], ordering: .releasing)
        for number in [SIGTERM] + others { install(number) }
        let source = descriptors[0]
        let numbers = [SIGTERM] + others
        startThread {
            // The parent process may have blocked them: every thread inherits that. One that takes them is enough.
            var taken = sigset_t()
            sigemptyset(&taken)
            for number in numbers { sigaddset(&taken, number) }
            pthread_sigmask(SIG_UNBLOCK, &taken, nil)
            var byte: UInt8 = 0
            while true {
                let count = read(source, &byte, 1)
                if count < 0, errno == EINTR { continue }
                guard count == 1 else { return }
                self.request()
            }
        }
    }

    /// Once the process is asked to end: waits until `pipeline` has saved what is in flight, at most for `duration`, and ends
    /// the process as the signal would have.
    public func drain(_ pipeline: SnapshotPipeline, upTo duration: Duration = .seconds(25)) {
        endProcess(after: { [weak pipeline] in _ = pipeline?.drain(upTo: duration) })
    }

    /// The same for snapshots of several tiers: also waits for copies from tier to tier.
    public func drain(_ snapshots: TieredSnapshots, upTo duration: Duration = .seconds(25)) {
        endProcess(after: { [weak snapshots] in _ = snapshots?.drain(upTo: duration) })
    }

    private func endProcess(after work: @escaping @Sendable () -> Void) {
        watch()
        onRequest {
            work()
            signal(SIGTERM, SIG_DFL)
            raise(SIGTERM)
        }
    }

    /// Calls `handler` on a thread of its own once the process is asked to end; at once if it has been.
    package func onRequest(_ handler: @escaping @Sendable () -> Void) {
        let isLate = state.change { state in
            if !state.isRequested { state.handlers.append(handler) }
            return state.isRequested
        }
        if isLate { startThread(handler) }
    }

    /// What a signal does.
    func request() {
        let handlers = state.change { state in
            state.isRequested = true
            defer { state.handlers = [] }
            return state.handlers
        }
        for handler in handlers { startThread(handler) }
    }

    private func install(_ number: Int32) {
        var action = sigaction()
        #if canImport(Darwin)
        action.__sigaction_u.__sa_handler = noteSignal
        #else
        action.__sigaction_handler.sa_handler = noteSignal
        #endif
        action.sa_flags = SA_RESTART
        sigaction(number, &action, nil)
    }
}

/// Where the handler writes: all that it may do is an atomic load and a `write`.
private let signalPipe = Atomic<Int32>(-1)

private func noteSignal(_ number: Int32) {
    let descriptor = signalPipe.load(ordering: .acquiring)
    guard descriptor >= 0 else { return }
    let saved = errno
    var byte: UInt8 = 1
    _ = write(descriptor, &byte, 1)
    errno = saved
}
