import CHDF5
import CHDF5Calls
import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The one door to HDF5: its calls come one at a time, whichever thread makes them.
///
/// The library has global state and, where it is built for threads, one lock around everything; ours also covers what
/// is done between its calls.
enum HDF5Library {
    private static let lock = RecursiveLock()

    /// Makes calls with those of no other thread in between.
    static func run<Result: ~Copyable>(_ body: () throws(CairnError) -> Result) throws(CairnError) -> Result {
        lock.acquire()
        defer { lock.release() }
        cairn_h5_silence()
        return try body()
    }

    /// Closes something; what goes wrong then changes nothing.
    static func close(_ body: () -> Void) {
        lock.acquire()
        defer { lock.release() }
        cairn_h5_silence()
        body()
    }

    /// The error of a call that just failed on this thread.
    static func failure(_ doing: String, _ context: CairnError.Context = .init()) -> CairnError {
        var text = [CChar](repeating: 0, count: 256)
        cairn_h5_last_error(&text, text.count)
        let end = text.firstIndex(of: 0) ?? text.count
        let reason = String(decoding: text[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var context = context
        context.found = context.found ?? (reason.isEmpty ? nil : reason)
        return CairnError(.malformed, "HDF5 cannot \(doing)", context)
    }

    /// Throws when a call returned what means failure.
    static func check(_ status: herr_t, _ doing: String) throws(CairnError) {
        guard status >= 0 else { throw failure(doing) }
    }
}

/// A lock that its holder may take again: things of HDF5 are closed wherever they are released.
///
/// `@unchecked Sendable`: the mutex is made once and never moves.
private final class RecursiveLock: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    init() {
        var attributes = pthread_mutexattr_t()
        pthread_mutexattr_init(&attributes)
        pthread_mutexattr_settype(&attributes, Int32(PTHREAD_MUTEX_RECURSIVE))
        pthread_mutex_init(mutex, &attributes)
        pthread_mutexattr_destroy(&attributes)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func acquire() { pthread_mutex_lock(mutex) }

    func release() { pthread_mutex_unlock(mutex) }
}

/// Something of HDF5 that is closed when it goes out of use.
struct HDF5Handle: ~Copyable {
    let id: hid_t
    private let close: @convention(c) (hid_t) -> herr_t

    /// - Parameter doing: What could not be done when `id` is invalid.
    init(
        _ id: hid_t, closing close: @convention(c) (hid_t) -> herr_t, _ doing: String
    ) throws(CairnError) {
        guard id >= 0 else { throw HDF5Library.failure(doing) }
        self.id = id
        self.close = close
    }

    deinit {
        let (id, close) = (id, close)
        HDF5Library.close { _ = close(id) }
    }
}
