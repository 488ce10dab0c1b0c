import Synchronization

/// How long the pieces of a file took, in seconds added up over threads.
package final class BuildTimes: Sendable {
    private let encodeNanoseconds = Atomic<Int64>(0)
    private let storeNanoseconds = Atomic<Int64>(0)

    /// Checksums and compression.
    package var encode: Double { Double(encodeNanoseconds.load(ordering: .relaxed)) / 1e9 }
    /// Handing bytes to the storage.
    package var store: Double { Double(storeNanoseconds.load(ordering: .relaxed)) / 1e9 }

    func add(encode duration: Duration) { encodeNanoseconds.add(duration.nanoseconds, ordering: .relaxed) }

    func add(store duration: Duration) { storeNanoseconds.add(duration.nanoseconds, ordering: .relaxed) }
}

extension Duration {
    fileprivate var nanoseconds: Int64 { Int64(self / .nanoseconds(1)) }
}
