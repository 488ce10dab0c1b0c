import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

/// Checkpoints that are written tensor by tensor, compressed on the way.
@Suite struct StreamedCompressionTests {
    @Test(arguments: [Compression.fast, .zstd(level: 1)])
    func whatIsStreamedCompressedComesBack(_ compression: Compression) throws {
        let seed = UInt64.random(in: 0...UInt64.max / 2)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<40 {
            var checkpoint = try MemoryCheckpoint.random(.random(in: 0...9, using: &generator), using: &generator)
            for index in 0..<3 {
                // Some get smaller, others do not; over several chunks.
                let range: ClosedRange<UInt8> = index == 0 ? 0...255 : 0...3
                checkpoint.add(
                    "large \(index)",
                    try .random(.f32, [.random(in: 200...9000, using: &generator)], bytes: range, using: &generator))
            }
            let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
            var options = SaveOptions(compression: compression)
            options.chunkByteCount = 4096
            let writer = try CairnWriter(store: store, step: 1, options: options)
            _ = try copyCheckpoint(
                from: checkpoint, to: writer, bufferByteCount: .random(in: 1...20_000, using: &generator))
            let reader = try store.open(step: 1)
            #expect(reader.tensors == checkpoint.tensors, "seed \(seed), round \(round)")
            #expect(try reader.verify(deep: true) { _ in }.isValid, "seed \(seed), round \(round)")
            for tensor in checkpoint.tensors {
                #expect(
                    try reader.tensor(tensor.name) == checkpoint.tensor(tensor.name),
                    "seed \(seed), round \(round): \(tensor)")
            }
        }
    }

    /// Chunks are written by other threads: whichever call fails, the error comes out and nothing looks whole.
    @Test(arguments: [Compression.fast, .zstd(level: 1)])
    func anErrorAtAnyCallComesOutAndLeavesNothingThatLooksWhole(_ compression: Compression) throws {
        var generator = SeededGenerator(seed: 4)
        let checkpoint = MemoryCheckpoint(["w": try .random(.f32, [1 << 15], bytes: 0...3, using: &generator)])
        var options = SaveOptions(compression: compression)
        options.chunkByteCount = 4096
        func write(failingAt call: Int?) throws -> (disk: SimulatedDisk, error: CairnError?) {
            let disk = SimulatedDisk()
            if let call { disk.inject(.fail(28), atCall: call) }
            let store = CheckpointStore(storage: LocalStorage(root: "/run", fileSystem: disk), name: "run")
            do {
                _ = try copyCheckpoint(from: checkpoint, to: CairnWriter(store: store, step: 1, options: options))
                return (disk, nil)
            } catch let error as CairnError {
                return (disk, error)
            }
        }
        let callCount = try write(failingAt: nil).disk.callCount
        var failures = 0
        for call in 1...callCount {
            let (disk, error) = try write(failingAt: call)
            let store = CheckpointStore(storage: LocalStorage(root: "/run", fileSystem: disk), name: "run")
            let steps = try store.list().filter { if case .committed = $0.state { true } else { false } }
            // Where nothing was said, it is whole; an error may come after it was committed.
            if error == nil { #expect(steps.count == 1, "call \(call)") } else { failures += 1 }
            if steps.count == 1 { #expect(try store.open(step: 1).verify(deep: true) { _ in }.isValid, "call \(call)") }
        }
        #expect(failures > callCount / 2)
    }

    /// Where every tensor is worth compressing, one that comes in pieces of any size makes the same file as a blocking save.
    @Test(arguments: [Compression.fast, .zstd(level: 1)])
    func aStreamedSaveIsTheFileOfABlockingOne(_ compression: Compression) throws {
        let seed = UInt64.random(in: 0...UInt64.max / 2)
        var generator = SeededGenerator(seed: seed)
        var state = TrainingState()
        for (name, type) in [("a", ScalarType.bf16), ("b", .f32), ("c", .f64), ("d", .u8), ("e", .i32)] {
            state.set(
                try .random(type, [.random(in: 2000...9000, using: &generator)], bytes: 0...3, using: &generator), for: name)
        }
        func options() -> SaveOptions {
            repeatableOptions(1) {
                $0.compression = compression
                $0.chunkByteCount = 4096
            }
        }
        let blocking = CheckpointStore(storage: MemoryStorage(), name: "blocking")
        try blocking.save(state, step: 1, options: options())
        let streamed = CheckpointStore(storage: MemoryStorage(), name: "streamed")
        _ = try copyCheckpoint(
            from: blocking.open(step: 1), to: CairnWriter(store: streamed, step: 1, options: options()),
            bufferByteCount: .random(in: 1...20_000, using: &generator))
        #expect(try streamed.load(step: 1) == state, "seed \(seed)")
        let files = try [blocking, streamed].map { try $0.storage.readAll($0.rankKey(step: 1)) }
        #expect(files[0] == files[1], "seed \(seed)")
        #expect(files[0].count < state.byteCount * 3 / 4, "seed \(seed)")
    }
}
