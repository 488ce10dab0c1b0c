import CairnBase
import Synchronization
import Testing

@Suite struct ThreadPoolTests {
    @Test func forEachVisitsEveryIndexOnce() throws {
        let pool = ThreadPool(threadCount: 3)
        let visits = Mutex([Int](repeating: 0, count: 1_000))
        try pool.forEach(1_000) { index in visits.withLock { $0[index] += 1 } }
        #expect(visits.withLock { $0.allSatisfy { $0 == 1 } })
    }

    @Test func forEachThrowsTheFirstErrorAndStops() {
        let pool = ThreadPool(threadCount: 2)
        let started = Atomic<Int>(0)
        #expect(throws: CairnError.self) {
            try pool.forEach(1_000_000) { index in
                started.add(1, ordering: .relaxed)
                if index == 10 { throw CairnError(.cancelled, "stop") }
            }
        }
        #expect(started.load(ordering: .relaxed) < 1_000_000)
    }

    @Test func nestedForEachDoesNotDeadlock() throws {
        let pool = ThreadPool(threadCount: 2)
        let sum = Atomic<Int>(0)
        try pool.forEach(8) { _ in
            try pool.forEach(8) { _ in sum.add(1, ordering: .relaxed) }
        }
        #expect(sum.load(ordering: .relaxed) == 64)
    }

    @Test func blockingWorkReturnsItsValueOrItsError() async throws {
        let pool = ThreadPool(threadCount: 1)
        #expect(try await pool.run { 42 } == 42)
        await #expect(throws: CairnError.self) { try await pool.run { throw CairnError(.notFound, "gone") } }
    }
}
