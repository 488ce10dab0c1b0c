import CairnBase
import Testing

@Suite struct RecyclingPoolTests {
    private struct Stop: Error {}

    @Test func whatComesBackIsUsedAgainAsItWasLeft() {
        let pool = RecyclingPool<[Int]>()
        pool.with([1]) { $0.append(2) }
        #expect(throws: Stop.self) {
            try pool.with([]) { item in
                item.append(3)
                throw Stop()
            }
        }
        #expect(pool.all == [[1, 2, 3]])
        pool.with([]) { first in pool.with([9]) { second in first += second } }
        #expect(pool.all == [[9], [1, 2, 3, 9]])
    }

    @Test func onlySoManyAreKeptAndTheFittingOneIsTaken() {
        let pool = RecyclingPool<Int>(limit: 2)
        for item in 1...3 { pool.give(item) }
        #expect(pool.all == [1, 2])
        #expect(pool.take { $0 > 2 } == nil)
        #expect(pool.take { $0 < 2 } == 1)
        #expect(pool.take() == 2)
        #expect(pool.take() == nil)
    }

    /// No two users at once have the same thing.
    @Test func threadsNeverShare() throws {
        let pool = RecyclingPool<AlignedBuffer>()
        try ThreadPool.waiting.forEach(200) { index in
            pool.with(AlignedBuffer(byteCount: 4096)) { buffer in
                buffer.bytes.initializeMemory(as: UInt8.self, repeating: UInt8(index))
                #expect(buffer.bytes.allSatisfy { $0 == UInt8(index) })
            }
        }
        #expect(pool.all.count <= ThreadPool.waiting.threadCount + 1)
    }
}
