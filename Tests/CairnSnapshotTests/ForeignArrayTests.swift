import CairnBase
import CairnCheckpoint
import CairnSnapshot
import CairnStorage
import CairnStorageTesting
import CairnTensor
import Testing

/// Snapshots of memory that is not copy-on-write.
@Suite struct ForeignArrayTests {
    private let pool = BufferPool(idleLimit: 1 << 22)

    /// Raw memory that lives as long as this does.
    ///
    /// `@unchecked Sendable`: the address never changes.
    private final class Buffer: @unchecked Sendable {
        let bytes: UnsafeMutableRawBufferPointer

        init(byteCount: Int) {
            bytes = .allocate(byteCount: byteCount, alignment: 64)
            for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index) }
        }

        deinit { bytes.deallocate() }
    }

    private func makeArray(byteCount: Int, chunk: Int) throws -> (RawMemory, ForeignArray) {
        let buffer = Buffer(byteCount: byteCount)
        let memory = RawMemory(buffer.bytes, keptAliveBy: buffer)
        return (memory, try ForeignArray(.u8, [byteCount], memory: memory, chunkByteCount: chunk, pool: pool))
    }

    private func bytes(_ array: ForeignArray) throws -> [UInt8] {
        var all = [UInt8](repeating: 0, count: array.byteCount)
        var span = all.mutableSpan
        var bytes = span.mutableBytes
        try array.memory.read(0..<array.byteCount, into: &bytes)
        return all
    }

    @Test func theSnapshotIsTheStateAtTheCallWhateverIsWrittenMeanwhile() throws {
        for seed in UInt64(1)...15 {
            var random = SimulationRandom(seed: seed)
            let (memory, array) = try makeArray(byteCount: 50_000, chunk: [4096, 10_000, 1 << 20][Int(random.next() % 3)])
            let storage = ManagedStorage()
            var options = SnapshotOptions()
            options.byteBudget = Int(random.next() % 40_000)
            options.backPressure = random.next() % 2 == 0 ? .grow : .wait(upTo: .milliseconds(30))
            let pipeline = SnapshotPipeline(
                CheckpointStore(storage: storage, name: "seed \(seed)"), pool: pool, options: options)
            var taken: [(Snapshot, [UInt8])] = []
            for step in 1...12 {
                if random.next() % 3 == 0 { storage.close(after: Int(random.next() % 3)) }
                let expected = try bytes(array)
                let saveOptions = smallChunks { $0.compression = step % 4 == 0 ? .zstd() : .none }
                if random.next() % 2 == 0, taken.count(where: { $0.0.outcome == nil }) < 2 {
                    taken.append(
                        (
                            pipeline.snapshot(
                                TrainingState(), foreign: [(name: "foreign", array: array)], step: step, options: saveOptions),
                            expected
                        ))
                }
                for _ in 0..<random.next() % 4 {
                    let begin = Int(random.next() % 50_000)
                    let end = min(50_000, begin + Int(random.next() % 20_000))
                    let lease = try array.lease(begin..<end)
                    try memory.mutate(lease) { bytes in
                        for offset in 0..<bytes.byteCount {
                            bytes.storeBytes(of: UInt8(truncatingIfNeeded: random.next()), toByteOffset: offset, as: UInt8.self)
                        }
                    }
                    lease.end()
                }
                if random.next() % 4 == 0 { taken.last?.0.cancel() }
                storage.open()
            }
            #expect(pipeline.drain(), "seed \(seed)")
            for (snapshot, expected) in taken where snapshot.outcome?.isCommitted == true {
                let loaded = try pipeline.store.load(step: snapshot.step).tensor("foreign")
                #expect(try loaded.elements(as: UInt8.self) == expected, "seed \(seed), step \(snapshot.step)")
            }
            #expect(pool.copyStatistics.heldByteCount == 0, "seed \(seed)")
        }
    }

    @Test func onlyChunksThatAreOverwrittenFirstAreCopied() throws {
        let (memory, array) = try makeArray(byteCount: 40_000, chunk: 10_000)
        let storage = ManagedStorage()
        let pipeline = SnapshotPipeline(CheckpointStore(storage: storage, name: "managed"), pool: pool)
        storage.close()
        let snapshot = pipeline.snapshot(TrainingState(), foreign: [(name: "foreign", array: array)], step: 1)
        // The drain reads one piece at a time and stands at the gate with the first.
        storage.awaitWaiter()
        let copies = pool.copyStatistics.copyCount
        let lease = try array.lease(15_000..<16_000)
        try memory.mutate(lease) { $0.storeBytes(of: 0, as: UInt8.self) }
        lease.end()
        #expect(pool.copyStatistics.copyCount - copies <= 1)
        storage.open()
        #expect(snapshot.wait()?.isCommitted == true)
    }

    @Test func noSnapshotIsTakenWhileALeaseIsHeld() throws {
        let (_, array) = try makeArray(byteCount: 100, chunk: 10)
        let pipeline = SnapshotPipeline(CheckpointStore(storage: MemoryStorage(), name: "memory"), pool: pool)
        do {
            let lease = try array.lease()
            guard
                case .failed(let error)? = pipeline.snapshot(
                    TrainingState(), foreign: [(name: "foreign", array: array)], step: 1
                ).wait()
            else {
                Issue.record("no failure")
                return
            }
            #expect(error.code == .invalidArgument && error.description.contains("lease"))
            lease.end()
        }
        #expect(
            pipeline.snapshot(TrainingState(), foreign: [(name: "foreign", array: array)], step: 1).wait()?.isCommitted
                == true)
    }

    @Test func wrongSizesRangesAndLeasesAreRefused() throws {
        let (memory, array) = try makeArray(byteCount: 100, chunk: 10)
        let (other, _) = try makeArray(byteCount: 100, chunk: 10)
        #expect(throws: CairnError.self) { try ForeignArray(.f32, [26], memory: memory, pool: pool) }
        #expect(throws: CairnError.self) { try ForeignArray(.u8, [100], memory: memory, chunkByteCount: 0, pool: pool) }
        #expect(throws: CairnError.self) { _ = try array.lease(50..<101) }
        let lease = try array.lease()
        #expect(throws: CairnError.self) { try other.mutate(lease) { _ in } }
    }
}
