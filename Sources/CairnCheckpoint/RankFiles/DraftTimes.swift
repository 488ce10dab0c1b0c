import Synchronization

/// What the pieces of a file have taken, in seconds added up over threads.
package final class DraftTimes: Sendable {
    private let encodeNanoseconds = Atomic<Int64>(0)
    private let storeNanoseconds = Atomic<Int64>(0)

    /// Summing and compressing.
    package var encode: Double { Double(encodeNanoseconds.load(ordering: .relaxed)) / 1e9 }
    /// Handing bytes to the storage.
    package var store: Double { Double(storeNanoseconds.load(ordering: .relaxed)) / 1e9 }

    func note(encode duration: Duration) { encodeNanoseconds.add(duration.nanoseconds, ordering: .relaxed) }

    func note(store duration: Duration) { storeNanoseconds.add(duration.nanoseconds, ordering: .relaxed) }
}

extension Duration {
    fileprivate var nanoseconds: Int64 { Int64(self / .nanoseconds(1)) }
}
