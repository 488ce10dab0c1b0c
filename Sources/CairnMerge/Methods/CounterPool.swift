import Synchronization

/// Arrays of counters that threads count in, each in one that no other has, added up in the end.
///
/// `@unchecked Sendable`: the memory is reached through `idle` only, which hands each array to one thread at a time.
final class CounterPool: @unchecked Sendable {
    private struct Counters: @unchecked Sendable {
        let memory: UnsafeMutableBufferPointer<UInt64>
    }

    private let count: Int
    private let all = Mutex<[Counters]>([])
    private let idle = Mutex<[Counters]>([])

    init(count: Int) { self.count = count }

    deinit { all.withLock { for counters in $0 { counters.memory.deallocate() } } }

    func with<Result>(_ body: (UnsafeMutablePointer<UInt64>) throws -> Result) rethrows -> Result {
        let counters = idle.withLock { $0.popLast() } ?? make()
        defer { idle.withLock { $0.append(counters) } }
        guard let base = counters.memory.baseAddress else { preconditionFailure("counters without memory") }
        return try body(base)
    }

    private func make() -> Counters {
        let counters = Counters(memory: .allocate(capacity: max(1, count)))
        counters.memory.initialize(repeating: 0)
        all.withLock { $0.append(counters) }
        return counters
    }

    /// What was counted by all. Call it when no thread counts any more.
    func sums() -> [UInt64] {
        var sums = [UInt64](repeating: 0, count: count)
        all.withLock { all in
            for counters in all {
                for index in 0..<count { sums[index] += counters.memory[index] }
            }
        }
        return sums
    }
}
