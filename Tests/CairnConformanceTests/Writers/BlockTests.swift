import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// The same state gives the same bytes, however its own come.
@Suite struct BlockTests {
    /// Writes a state's bytes in blocks of the sizes that a closure gives.
    private func write(
        _ state: MemoryCheckpoint, _ format: WritableFormat, nextCount: () -> Int
    ) throws -> [String: [UInt8]] {
        let storage = MemoryStorage()
        let writer = try format.makeWriter(storage, false)
        _ = try writer.begin(tensors: state.tensors, values: state.values, structure: state.structure)
        var bytes: [UInt8] = []
        for tensor in state.tensors where tensor.tiedTo == nil { bytes += try state.whole(tensor.name) }
        var position = 0
        while position < bytes.count {
            let end = min(bytes.count, position + nextCount())
            try writer.append(bytes.span.bytes.extracting(position..<end))
            position = end
        }
        try writer.finish()
        return try storage.contents()
    }

    @Test(arguments: WritableFormat.all) func blocksOfAnySizeGiveTheSameFiles(format: WritableFormat) throws {
        for seed in 20..<24 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let state = try format.randomState(seed: seed)
            let whole = try write(state, format) { .max >> 1 }
            #expect(!whole.isEmpty)
            #expect(try write(state, format) { .max >> 1 } == whole, "seed \(seed): again")
            #expect(try write(state, format) { 1 } == whole, "seed \(seed): byte by byte")
            #expect(try write(state, format) { Int.random(in: 0...70, using: &generator) } == whole, "seed \(seed)")
        }
    }
}
