import CairnBase
import CairnCommunication
import Synchronization
import Testing

/// Runs ranks from a thread that may block.
@discardableResult
func ranksOnThreads<Value: Sendable>(
    _ ranks: Int, _ body: @escaping @Sendable (any Communicator) throws -> Value
) async throws -> [Value] {
    try await ThreadPool.shared.run { try ThreadCommunicator.run(ranks: ranks, body: body) }
}

/// What came of ranks of which some throw.
struct ThreadedRanks {
    /// What each rank threw.
    let errors: [CairnError?]
    /// What the run as a whole threw.
    let thrown: (any Error)?

    init(_ ranks: Int, _ body: @escaping @Sendable (any Communicator) throws -> Void) async {
        let record = ErrorRecord(ranks)
        var thrown: (any Error)?
        do {
            try await ranksOnThreads(ranks) { communicator in
                do {
                    try body(communicator)
                } catch {
                    if let error = error as? CairnError { record.add(error, ofRank: communicator.rank) }
                    throw error
                }
            }
        } catch {
            thrown = error
        }
        self.thrown = thrown
        errors = record.errors.withLock { $0 }
    }
}

private final class ErrorRecord: Sendable {
    let errors: Mutex<[CairnError?]>

    init(_ ranks: Int) { errors = Mutex(Array(repeating: nil, count: ranks)) }

    func add(_ error: CairnError, ofRank rank: Int) { errors.withLock { $0[rank] = error } }
}

/// The call a test is about, so that each can be tried.
enum SampleCall: CaseIterable, Sendable {
    case barrier, broadcast, sum, sumOfDoubles, scatteredSum, allGather, gather, message, split, receive

    func make(_ communicator: any Communicator) throws {
        var floats: [Float] = Array(repeating: 1, count: communicator.size)
        let ones = Array(repeating: 1, count: communicator.size)
        switch self {
        case .barrier: try communicator.barrier()
        case .broadcast: try communicator.broadcast(&floats, from: 0)
        case .sum: try communicator.allReduceSum(&floats)
        case .sumOfDoubles: _ = try communicator.sum(1)
        case .scatteredSum: try communicator.reduceScatterSum(&floats, counts: ones)
        case .allGather: try communicator.allGather(&floats, counts: ones)
        case .gather: _ = try communicator.gather([1], at: 0)
        case .message: _ = try communicator.broadcast(message: [1], from: 0)
        case .split: _ = try communicator.split(color: 0, key: 0)
        case .receive: try communicator.receive(&floats, from: communicator.rank, tag: 9)
        }
    }
}
