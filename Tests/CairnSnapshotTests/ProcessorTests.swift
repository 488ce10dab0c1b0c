import CairnBase
import CairnSnapshot
import Testing

/// Threads that keep out of the way.
@Suite struct ProcessorTests {
    @Test(.enabled(if: ThreadPool.processorCount > 1, "needs a second processor"))
    func aThreadLeavesTheProcessorThatItIsKeptOff() async throws {
        let (first, second) = await onThreadOfItsOwn { () -> ([Processor], [Processor]) in
            let origin = Processor.current
            return (Self.visited(keptOff: origin, from: origin), Self.visited(keptOff: Processor.current, from: origin))
        }
        let origin = try #require(first.first)
        #expect(!first.dropFirst().contains(origin))
        // What it was kept off first it may use again: the second processor is not the only one that is left.
        let next = try #require(first.last)
        #expect(!second.dropFirst().contains(next))
    }

    /// Where a thread that is kept off a processor finds itself in a few thousand moments, after where it began.
    private static func visited(keptOff processor: Processor, from origin: Processor) -> [Processor] {
        processor.keepOff()
        return [origin] + (0..<5000).map { _ in Processor.current }
    }

    private func onThreadOfItsOwn<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in startThread { continuation.resume(returning: body()) } }
    }
}
