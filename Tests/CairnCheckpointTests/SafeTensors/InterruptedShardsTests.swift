import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

@Suite("Interrupted conversions into several files")
struct InterruptedShardsTests {
    private let tensors = (0..<6).map {
        TensorDescription(name: "tensor\($0)", scalarType: .u8, shape: [100])
    }

    private func bytes(_ index: Int) -> [UInt8] { [UInt8](repeating: UInt8(index + 1), count: 100) }

    /// Writes tensors from where the writer continues to `end`, and finishes when that is all.
    private func write(_ storage: any Storage, identity: String?, until end: Int) throws -> Int {
        let writer = SafeTensorsWriter(storage: storage, key: "model.safetensors", maximumShardByteCount: 200)
        writer.continuation = identity
        _ = try writer.begin(tensors: tensors, values: [])
        let resumed = writer.resumedTensorCount
        for index in resumed..<max(resumed, end) { try writer.append(bytes(index).span.bytes) }
        if end == tensors.count { try writer.finish() } else { writer.discard() }
        return resumed
    }

    private func check(_ storage: any Storage) throws {
        let reader = try SafeTensorsReader(storage: storage, index: "model.safetensors.index.json")
        for index in tensors.indices {
            #expect(try reader.tensor("tensor\(index)").withElements(as: UInt8.self) { Array($0) } == bytes(index))
        }
        #expect(try storage.list("").count == 4)
    }

    @Test("The same conversion continues after the finished files, which are not a checkpoint until then")
    func resumes() throws {
        let storage = MemoryStorage()
        #expect(try write(storage, identity: "one", until: 5) == 0)
        #expect(throws: CairnError.self) {
            try SafeTensorsReader(storage: storage, index: "model.safetensors.index.json")
        }
        #expect(try write(storage, identity: "one", until: 5) == 4)
        #expect(try write(storage, identity: "one", until: 6) == 4)
        try check(storage)
    }

    @Test("Another conversion starts over")
    func startsOver() throws {
        let storage = MemoryStorage()
        _ = try write(storage, identity: "one", until: 5)
        #expect(try write(storage, identity: "two", until: 6) == 0)
        try check(storage)
    }

    @Test("A finished file that was changed is written again, with all behind it")
    func verifies() throws {
        for damaged in 1...2 {
            let storage = MemoryStorage()
            _ = try write(storage, identity: "one", until: 5)
            let key = "model-0000\(damaged)-of-00003.safetensors"
            var content = try storage.readAll(key)
            content[content.count - 1] ^= 1
            try storage.publish(content, as: key)
            #expect(try write(storage, identity: "one", until: 6) == (damaged - 1) * 2)
            try check(storage)
        }
    }

    @Test("Without an identity nothing stays")
    func staysNothing() throws {
        let storage = MemoryStorage()
        _ = try write(storage, identity: nil, until: 5)
        #expect(try storage.list("").isEmpty)
    }
}
