import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct SafeTensorsRobustnessTests {
    /// A small file with everything: metadata, values, a tie, packed elements, an empty tensor.
    private func sample() throws -> [UInt8] {
        var checkpoint = MemoryCheckpoint()
        checkpoint.add("a", try Tensor([1, 2, 3] as [Float], [3]))
        let packed = [0x12, 0x34] as [UInt8]
        checkpoint.add("é", try Tensor(.f4, [2, 2], copying: packed.span.bytes))
        checkpoint.add("e", try Tensor(zeros: .u8, [0]))
        checkpoint.add("t", try checkpoint.tensor("a"), tiedTo: "a")
        checkpoint.values = [NamedValue(name: "v", value: ["n": .double(.nan), "b": .bytes([1])])]
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: checkpoint, to: SafeTensorsWriter(storage: storage, key: "x"))
        return try storage.readAll("x")
    }

    /// Opens a file and reads all of it; whether that went well.
    private func readsWhole(_ bytes: [UInt8]) throws -> Bool {
        let storage = MemoryStorage()
        try storage.publish(bytes, as: "x")
        do {
            let reader = try SafeTensorsReader(storage: storage, file: "x")
            for tensor in reader.tensors { _ = try reader.tensor(tensor.name) }
            return true
        } catch let error as CairnError {
            #expect(error.code != .inputOutput)
            return false
        }
    }

    @Test func aFileCutShortAnywhereIsRefused() throws {
        let bytes = try sample()
        #expect(try readsWhole(bytes))
        for count in 0..<bytes.count { #expect(try !readsWhole(Array(bytes[..<count])), "\(count) bytes") }
    }

    @Test func noSingleByteThatChangesMakesTheReaderTrap() throws {
        let bytes = try sample()
        var refused = 0
        for index in bytes.indices {
            for value in UInt8.min...UInt8.max where value != bytes[index] {
                var changed = bytes
                changed[index] = value
                if try !readsWhole(changed) { refused += 1 }
            }
        }
        #expect(refused > bytes.count)
    }

    @Test func noSingleByteThatChangesInAnIndexMakesTheReaderTrap() throws {
        let storage = MemoryStorage()
        try storage.publish(try sample(), as: "a.safetensors")
        let index = Array(
            """
            {"metadata":{"total_size":14,"x":[1.5,null]},
            "weight_map":{"a":"a.safetensors","é":"a.safetensors","e":"a.safetensors"}}
            """.utf8)
        try storage.publish(index, as: "x.json")
        #expect(try SafeTensorsReader(storage: storage, index: "x.json").tensors.count == 4)
        for position in index.indices {
            for value in stride(from: UInt8.min, through: .max, by: 3) {
                var changed = index
                changed[position] = value
                try storage.publish(changed, as: "x.json")
                _ = try? SafeTensorsReader(storage: storage, index: "x.json")
            }
            try storage.publish(Array(index[..<position]), as: "x.json")
            #expect(throws: CairnError.self) { try SafeTensorsReader(storage: storage, index: "x.json") }
        }
    }

    @Test func brokenNotesAreRefused() throws {
        let broken = [
            ("cairn.ties", #"{"t":"missing"}"#), ("cairn.ties", #"{"a":"a"}"#), ("cairn.ties", "[]"),
            ("cairn.ties", #"{"t":1}"#), ("cairn.ties", #"{"t":"u","u":"a"}"#), ("cairn.values", "{"),
            ("cairn.values", #"{"v":{"$u64":"-1"}}"#), ("cairn.values", #"{"v":{"$later":"1"}}"#),
            ("cairn.values", #"{"v":1,"v":1}"#),
        ]
        let storage = MemoryStorage()
        let entry = SafeTensorsHeader.Entry(name: "a", scalarType: .u8, shape: [0], byteRange: 0..<0)
        for (key, text) in broken {
            let header = SafeTensorsHeader(entries: [entry], metadata: [(key, text)])
            try storage.publish(header.serialized(alignment: 8), as: "x")
            #expect(throws: CairnError.self, "\(text)") { try SafeTensorsReader(storage: storage, file: "x") }
        }
    }

    @Test(arguments: [
        "../outside.safetensors", "..", "/outside.safetensors", "a/../../outside.safetensors", "./w.safetensors", "",
    ])
    func anIndexThatNamesWhatIsNotBelowItIsRefused(file: String) throws {
        let storage = MemoryStorage()
        let weights = try LocalStorage(root: Repository.fixture("safetensors/single")).readAll("model.safetensors")
        for key in ["outside.safetensors", "run/w.safetensors"] { try storage.publish(weights, as: key) }
        let index = #"{"metadata": {}, "weight_map": {"w": "\#(file)"}}"#
        try storage.publish(Array(index.utf8), as: "run/model.safetensors.index.json")
        #expect {
            _ = try SafeTensorsReader(storage: storage, index: "run/model.safetensors.index.json")
        } throws: { error in
            let error = error as? CairnError
            return error?.code == .malformed && error?.context.file == "run/model.safetensors.index.json"
        }
    }
}
