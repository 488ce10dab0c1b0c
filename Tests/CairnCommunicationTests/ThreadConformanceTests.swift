import CairnBase
import CairnCommunication
import CairnCommunicationTesting
import Testing

@Suite struct ThreadConformanceTests {
    @Test(arguments: CommunicatorConformance.all, 1...8)
    func threadsConform(_ conformance: CommunicatorConformance, ranks: Int) async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        try await ranksOnThreads(ranks) { try conformance.check($0, seed: seed) }
    }

    @Test func allChecksRunOneAfterTheOther() async throws {
        try await ranksOnThreads(4) { try CommunicatorConformance.run($0, seed: 20) }
    }
}

/// Runs ranks from a thread that may block.
@discardableResult
func ranksOnThreads<Value: Sendable>(
    _ ranks: Int, _ body: @escaping @Sendable (any Communicator) throws -> Value
) async throws -> [Value] {
    try await ThreadPool.shared.run { try ThreadCommunicator.run(ranks: ranks, body: body) }
}
