import CairnBase
import CairnCommunication
import Testing

@Suite struct RankFailureTests {
    static let reason = CairnError(.noSpace, "no room", CairnError.Context(file: "state"))

    private func expectEcho(_ error: CairnError?, ofRank rank: Int, _ source: SourceLocation = #_sourceLocation) {
        #expect(error?.code == .noSpace, sourceLocation: source)
        #expect(error?.context.rank == rank, sourceLocation: source)
        #expect((error?.cause as? RankFailure)?.reason.context.file == "state", sourceLocation: source)
        #expect(error?.description.contains("no room") == true, sourceLocation: source)
    }

    @Test(arguments: SampleCall.allCases)
    func aFailureWakesRanksThatWaitInAnyCall(_ call: SampleCall) async {
        let ranks = await ThreadedRanks(4) { communicator in
            for _ in 0..<3 { try communicator.barrier() }
            if communicator.rank == 2 { throw Self.reason }
            try call.make(communicator)
        }
        for rank in [0, 1, 3] { expectEcho(ranks.errors[rank], ofRank: 2) }
        let thrown = ranks.thrown as? CairnError
        #expect(thrown?.context.file == "state" && thrown?.cause == nil, "the run throws the reason, no echo of it")
    }

    @Test(arguments: SampleCall.allCases)
    func everyCallAfterAFailureThrowsOnTheFailedRankToo(_ call: SampleCall) async throws {
        let ranks = await ThreadedRanks(3) { communicator in
            if communicator.rank == 1 { communicator.fail(Self.reason) }
            if communicator.rank != 1 { try? communicator.barrier() }
            try call.make(communicator)
        }
        for error in ranks.errors { expectEcho(error, ofRank: 1) }
        let sending = await ThreadedRanks(2) { communicator in
            communicator.fail(Self.reason)
            try communicator.send([1], to: 0, tag: 0)
        }
        #expect(sending.errors.allSatisfy { $0?.code == .noSpace })
    }

    @Test func aFailureWakesRanksThatWaitInSubgroupsOfSubgroups() async throws {
        let ranks = await ThreadedRanks(8) { communicator in
            let half = try communicator.split(color: communicator.rank / 4, key: 0)
            let quarter = try half.split(color: half.rank / 2, key: 0)
            try quarter.barrier()
            if communicator.rank == 5 {
                communicator.fail(Self.reason)
                throw Self.reason
            }
            if communicator.rank % 2 == 0 { try quarter.barrier() }
            while true { try half.barrier() }
        }
        for rank in 0..<8 where rank != 5 { expectEcho(ranks.errors[rank], ofRank: 5) }
    }

    @Test func aFailedSubgroupLeavesTheOthersAlone() async throws {
        let sums = try await ranksOnThreads(4) { communicator in
            let pair = try communicator.split(color: communicator.rank / 2, key: 0)
            if communicator.rank == 3 { pair.fail(Self.reason) }
            if communicator.rank >= 2 { #expect(throws: CairnError.self) { try pair.barrier() } }
            if communicator.rank < 2 { try pair.barrier() }
            return try communicator.sum(1)
        }
        #expect(sums == [4, 4, 4, 4])
    }

    @Test func errorsOfASubgroupNameTheRankOfTheJob() async throws {
        try await ranksOnThreads(4) { communicator in
            let pair = try communicator.split(color: communicator.rank % 2, key: 0)
            guard communicator.rank % 2 == 1 else { return }
            if communicator.rank == 3 { return pair.fail(Self.reason) }
            let error = #expect(throws: CairnError.self) { try pair.barrier() }
            #expect(error?.context.rank == 3)
        }
    }

    @Test func aRankThatPassesAFailureOnKeepsTheNameOfTheFirst() async throws {
        try await ranksOnThreads(3) { communicator in
            let other = try communicator.split(color: 0, key: 0)
            if communicator.rank == 2 { other.fail(Self.reason) }
            do {
                try other.barrier()
            } catch let error as CairnError {
                if communicator.rank == 0 { communicator.fail(error) }
            }
            let error = #expect(throws: CairnError.self) { try communicator.barrier() }
            #expect(error?.context.rank == 2)
        }
    }

    @Test func wrongArgumentsOfOneRankFailTheGroup() async throws {
        let ranks = await ThreadedRanks(3) { communicator in
            var values: [Float] = [1, 2, 3]
            try communicator.reduceScatterSum(&values, counts: communicator.rank == 1 ? [1, 1] : [1, 1, 1])
        }
        #expect(ranks.errors.allSatisfy { $0?.code == .invalidArgument })
        #expect(ranks.errors[0]?.context.rank == 1)
        for counts in [[-1, 4, 0], [1, 1, 2], [.max, .max, 5]] {
            let wrong = await ThreadedRanks(3) { communicator in
                var values: [Float] = [1, 2, 3]
                try communicator.allGather(&values, counts: counts)
            }
            #expect(wrong.errors.allSatisfy { $0?.code == .invalidArgument }, "\(counts)")
        }
    }

    @Test func anErrorThatIsNoneOfOursIsThrownAsItIsAndTellsTheOthers() async {
        struct Odd: Error {}
        let ranks = await ThreadedRanks(2) { communicator in
            if communicator.rank == 0 { throw Odd() }
            try communicator.barrier()
        }
        #expect(ranks.thrown is Odd)
        #expect(ranks.errors[1]?.context.rank == 0)
        #expect(ranks.errors[1]?.description.contains("Odd") == true)
    }

    @Test func aGroupWithoutRanksIsRefused() async {
        #expect(throws: CairnError.self) { try ThreadCommunicator.run(ranks: 0) { _ in } }
    }

    /// Buffers are freed the moment a call throws, so a rank that still read them would read freed memory.
    @Test(arguments: 0..<12)
    func aFailureAtAnyMomentLeavesEveryRankWithTheSameSums(_ round: Int) async throws {
        let delay = Int.random(in: 0...20_000)
        let counts = try await ranksOnThreads(5) { communicator in
            let group = try communicator.split(color: 0, key: communicator.rank)
            if communicator.rank == 0 {
                startThread {
                    var turns = 0
                    while turns < delay { turns += Int.random(in: 1...2) }
                    group.fail(Self.reason)
                }
            }
            var succeeded = 0
            while true {
                var values = [Float](repeating: Float(communicator.rank), count: 5_000)
                do { try group.allReduceSum(&values) } catch { return succeeded }
                #expect(values.allSatisfy { $0 == 10 })
                succeeded += 1
            }
        }
        #expect(Set(counts).count == 1, "calls that succeeded on each rank: \(counts), delay \(delay)")
    }
}
