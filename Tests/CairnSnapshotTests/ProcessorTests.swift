import CairnBase
import CairnSnapshot
import Testing

/// Threads that keep out of the way.
@Suite struct ProcessorTests {
    @Test(.enabled(if: ThreadPool.processorCount > 1, "needs a second processor"))
    func aThreadLeavesTheProcessorThatItIsKeptOff() async throws {
        let (first, second) = await onThreadOfItsOwn {
            let first = Visits(keptOff: Processor.current)
            return (first, Visits(keptOff: Processor.current))
        }
        #expect(!first.processors.contains(first.keptOff))
        // What it was kept off first it may use again: the second processor may be the only other one.
        #expect(first.keptOff != second.keptOff)
        #expect(!second.processors.contains(second.keptOff))
    }

    /// Where a thread that is kept off a processor finds itself in a few thousand moments.
    private struct Visits: Sendable {
        let keptOff: Processor
        let processors: Set<Processor>

        init(keptOff: Processor) {
            self.keptOff = keptOff
            keptOff.keepOff()
            processors = Set((0..<5000).map { _ in Processor.current })
        }
    }

    private func onThreadOfItsOwn<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in startThread { continuation.resume(returning: body()) } }
    }
}
