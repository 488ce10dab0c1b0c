import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnLayoutTesting
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// How much is read: the chunks that needed elements are in, each once, and nothing else.
@Suite struct ReadVolumeTests {
    private static let chunkByteCount = 4096

    @Test func aPlanReadsTheChunksOfItsElementsAndEachOnce() throws {
        let first = UInt64.random(in: 0...UInt64.max / 2)
        for seed in first..<first + 60 {
            do {
                try Self.check(seed: seed)
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
        }
    }

    /// Tensors of many chunks, so that a plan that reads whole fragments is found out.
    private static func check(seed: UInt64) throws {
        var layouts = RandomLayouts(seed: seed)
        let saved = try RandomState(
            &layouts, rankCount: layouts.random.pick(1...4), maximumElementCount: 12_000, tensorCount: 1...2)
        let wanted = try RandomState(of: saved, &layouts, rankCount: layouts.random.pick(1...5))
        let storage = RecordingStorage(MemoryStorage())
        let store = CheckpointStore(storage: storage, name: "memory")
        _ = try ThreadCommunicator.run(ranks: saved.rankCount) { communicator in
            var options = SaveOptions()
            options.chunkByteCount = chunkByteCount
            options.concurrency = 1
            try ShardedStore(store, over: communicator)
                .save(saved.state(ofRank: communicator.rank), step: 1, options: options)
        }
        let reader = try store.open(step: 1)
        // Opens the files, whose headers are not part of a plan.
        _ = try reader.verify(deep: false)
        for rank in 0..<wanted.rankCount {
            let plan = try ReadPlan(reading: reader, rank: rank, tensors: wanted.tensors)
            storage.forget()
            _ = try plan.execute(reading: reader)
            let reads = storage.reads.sorted { ($0.key, $0.range.lowerBound) < ($1.key, $1.range.lowerBound) }
            for (one, next) in zip(reads, reads.dropFirst()) where one.key == next.key {
                guard one.range.upperBound <= next.range.lowerBound else {
                    throw CairnError(.mismatch, "\(one.key): \(one.range) and \(next.range) overlap")
                }
            }
            let count = reads.reduce(0) { $0 + $1.range.count }
            let expected = try chunkBytes(reader, wanted, rank: rank)
            guard count == expected, try plan.cost(chunkByteCount: chunkByteCount).readByteCount == expected else {
                let cost = try plan.cost(chunkByteCount: chunkByteCount)
                throw CairnError(
                    .mismatch, "rank \(rank) of \(wanted.tensors)",
                    .init(expected: "\(expected) bytes", found: "\(count), planned \(cost)"))
            }
        }
    }

    /// The bytes of the chunks that a rank's elements are in, found by looking up each element.
    private static func chunkBytes(_ reader: CairnReader, _ wanted: RandomState, rank: Int) throws -> Int {
        var total = 0
        for tensor in wanted.tensors {
            let needed = ElementOracle.local(tensor.layout, tensor.shape, rank: rank)?.elements.filter { $0 >= 0 } ?? []
            let isNeeded = Set(needed)
            let width = tensor.scalarType.byteWidth ?? 1
            for fragment in try reader.fragments(of: tensor.name, intersecting: nil) {
                let elements = ElementOracle.elements(of: fragment.region, in: tensor.shape)
                var chunks: Set<Int> = []
                for (position, element) in elements.enumerated() where isNeeded.contains(element) {
                    chunks.insert(position * width / chunkByteCount)
                }
                for chunk in chunks { total += min(chunkByteCount, elements.count * width - chunk * chunkByteCount) }
            }
        }
        return total
    }
}
