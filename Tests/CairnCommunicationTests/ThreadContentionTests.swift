import CairnBase
import CairnCommunication
import Synchronization
import Testing

@Suite struct ThreadContentionTests {
    @Test func everyRankHasTheSameBitsInEveryRun() async throws {
        let seed = UInt32.random(in: 1...UInt32.max)
        var runs: Set<[UInt32]> = []
        for _ in 0..<5 {
            let sums = try await ranksOnThreads(7) { communicator in
                var state = seed &+ UInt32(communicator.rank)
                var values = (0..<10_007).map { _ in
                    state = state &* 1_664_525 &+ 1_013_904_223
                    return Float(bitPattern: 0x3000_0000 | (state >> 4))
                }
                try communicator.allReduceSum(&values)
                return values.map(\.bitPattern)
            }
            runs.formUnion(sums)
        }
        #expect(runs.count == 1, "seed \(seed)")
    }

    @Test func manyMessagesInBothDirectionsArriveInOrder() async throws {
        try await ranksOnThreads(6) { communicator in
            for turn in 0..<400 {
                for other in 0..<6 {
                    try communicator.send([Float(turn), Float(communicator.rank)], to: other, tag: turn % 3)
                }
                guard turn % 4 == 3 else { continue }
                for earlier in turn - 3...turn {
                    for other in 0..<6 {
                        var values: [Float] = [0, 0]
                        try communicator.receive(&values, from: other, tag: earlier % 3)
                        #expect(values == [Float(earlier), Float(other)])
                    }
                }
            }
        }
    }

    @Test func aBarrierHoldsEveryRankUntilTheLast() async throws {
        let arrivals = Counter()
        try await ranksOnThreads(8) { communicator in
            for turn in 1...200 {
                arrivals.increment()
                try communicator.barrier()
                #expect(arrivals.value >= turn * 8)
                try communicator.barrier()
            }
        }
        #expect(arrivals.value == 1_600)
    }

    /// A training loop and a save that runs beside it, each with a group of its own.
    @Test func threadsOfOneRankWorkSideBySideInGroupsOfTheirOwn() async throws {
        try await ranksOnThreads(3) { communicator in
            let beside = try communicator.split(color: 0, key: communicator.rank)
            let done = BlockingQueue<Double>()
            startThread {
                var sum = 0.0
                for turn in 0..<300 { sum += (try? beside.sum(Double(turn))) ?? .nan }
                done.push(sum)
            }
            var sum = 0.0
            for turn in 0..<300 { sum += try communicator.sum(Double(turn)) }
            let expected = Double(3 * 44_850)
            #expect(sum == expected)
            let sumBeside = done.pop()
            #expect(sumBeside == expected)
        }
    }

    @Test func groupsThatNobodyHoldsAreLetGo() async throws {
        let names = try await ranksOnThreads(2) { communicator in
            weak var last: (any Communicator)?
            for _ in 0..<2_000 {
                let group = try communicator.split(color: communicator.rank, key: 0)
                try group.barrier()
                last = group
            }
            return last == nil
        }
        #expect(names == [true, true])
    }
}

private final class Counter: Sendable {
    private let count = Mutex(0)

    func increment() { count.withLock { $0 += 1 } }

    var value: Int { count.withLock { $0 } }
}
