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
