import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnDigest
import CairnHDF5
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct HDF5WriterTests {
    /// A state with every type of elements and every kind of value.
    private func state() throws -> MemoryCheckpoint {
        var generator = SeededGenerator(seed: 5)
        var state = MemoryCheckpoint()
        for scalarType in ScalarType.allCases {
            let range: ClosedRange<UInt8> = scalarType == .bool ? 0...1 : 0...255
            for (name, shape) in [("m", [3, 8]), ("empty", [0, 8])] as [(String, Shape)] {
                state.add("\(scalarType)/\(name).x", try .random(scalarType, shape, bytes: range, using: &generator))
            }
        }
        state.add("scalar", try Tensor([1 as Float], .scalar))
        state.add("ünï", Tensor([1, 2] as [UInt8]))
        state.add("ünï_tied", Tensor([1, 2] as [UInt8]), tiedTo: "ünï")
        let many = Value.dictionary(
            Dictionary(uniqueKeysWithValues: (0..<20).map { ("key \($0)", .string("text \($0)")) }))
        state.values = [
            .init(name: "bool", value: true), .init(name: "bytes", value: .bytes([0, 255, 0])),
            .init(name: "double", value: .double(-0.0)), .init(name: "nan", value: .double(.nan)),
            .init(name: "large", value: ["numbers": .list((0..<20_000).map { .integer($0) }), "text": "beside it"]),
            .init(name: "list", value: [1, 2.5, "x", [1, 2], ["a": 1]]), .init(name: "many", value: many),
            .init(name: "null", value: .null), .init(name: "text", value: "ünï"), .init(name: "nothing", value: ""),
            .init(name: "texts", value: ["a", "", "ccc"]), .init(name: "truths", value: [true, false]),
            .init(name: "unsigned", value: .unsigned(.max)), .init(name: "with nul", value: "a\0b"),
        ]
        return state
    }

    /// A tensor of one byte under each name.
    private func bytes(_ names: [String]) -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        for name in names { checkpoint.add(name, Tensor([1] as [UInt8])) }
        return checkpoint
    }

    private func written(
        _ checkpoint: any CheckpointReader, flavour: HDF5Writer.Flavour = .plain
    ) throws -> (HDF5Reader, notes: [String]) {
        let storage = MemoryStorage()
        let writer = HDF5Writer(storage: storage, key: "f.h5", flavour: flavour)
        let notes = try copyCheckpoint(from: checkpoint, to: writer, bufferByteCount: 16)
        return (try HDF5Reader(storage: storage, file: "f.h5"), notes)
    }

    @Test func elementsOfLargerTensorsBeginAtMultiplesOf64() throws {
        var state = MemoryCheckpoint()
        for index in 0..<40 {
            // 4, 16, 64, 256 bytes; each with elements of its own.
            let count = 1 << (2 * (index % 4))
            let elements = [UInt32](repeating: 0xC0FF_EE00 + UInt32(index), count: count)
            state.add("group/tensor \(index)", Tensor(elements))
        }
        let storage = MemoryStorage()
        let writer = HDF5Writer(storage: storage, key: "f.h5")
        _ = try copyCheckpoint(from: state, to: writer)
        let bytes = try storage.readAll("f.h5")
        var offsets: [UInt32: Int] = [:]
        for offset in 0..<bytes.count - 3 {
            let word = bytes[offset..<offset + 4].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            if word >> 8 == 0xC0FFEE, offsets[word & 0xFF] == nil { offsets[word & 0xFF] = offset }
        }
        #expect(offsets.count == 40)
        for (index, offset) in offsets where index % 4 >= 2 { #expect(offset % 64 == 0, "tensor \(index)") }
    }

    @Test func everyTypeAndValueComesBack() throws {
        let state = try state()
        let (reader, notes) = try written(state)
        #expect(reader.tensors == state.tensors)
        let before = try CheckpointDigest(of: state)
        let after = try CheckpointDigest(of: reader)
        #expect(before.tensors == after.tensors)
        #expect(Fixture.leaves(before) == Fixture.leaves(after))
        #expect(reader.skippedEntries.isEmpty)
        // Types that HDF5 lacks are named.
        for scalarType in [ScalarType.bf16, .f4, .f6e2m3, .f8e4m3] {
            #expect(notes.contains { $0.contains("\(scalarType)") }, "\(scalarType)")
        }
    }

    @Test func equalStatesGiveEqualFiles() throws {
        let storage = MemoryStorage()
        for key in ["a.h5", "b.h5"] {
            _ = try copyCheckpoint(from: state(), to: HDF5Writer(storage: storage, key: key))
        }
        let bytes = try storage.readAll("a.h5")
        #expect(try bytes == storage.readAll("b.h5"))
        // Nor does any header have the time in it, which flag 0x20 would say.
        let headers = bytes.indices.dropLast(8).filter { bytes[$0..<$0 + 4].elementsEqual("OHDR".utf8) }
        #expect(headers.count > 10)
        #expect(headers.allSatisfy { bytes[$0 + 5] & 0x20 == 0 })
    }

    @Test func weightsOfKerasSurvive() throws {
        let source = try KerasReader(path: Fixture.path("keras/model_bf16.keras"))
        let (reader, _) = try written(source, flavour: .kerasWeights)
        let before = try CheckpointDigest(of: source)
        let after = try CheckpointDigest(of: reader)
        #expect(before.tensors == after.tensors)
        #expect(before.objects == after.objects)
    }

    @Test(arguments: [
        ["a", "a/b"], ["a//b"], ["/a"], ["a/"], [""], ["a/./b"], ["a\0b"],
    ])
    func namesThatAreNoPathsAreRefused(names: [String]) throws {
        let error = refusal { _ = try written(bytes(names)) }
        #expect(error?.code == .unsupported)
        #expect(error?.context.tensor == names.last)
    }

    @Test(arguments: [["layers/dense/0"], ["layers/dense/vars/x"], ["a/vars/0", "a/vars/2"]])
    func namesThatKerasDoesNotKnowAreRefused(names: [String]) throws {
        let checkpoint = bytes(names)
        #expect(refusal { _ = try written(checkpoint, flavour: .kerasWeights) }?.code == .unsupported)
        _ = try written(checkpoint)
    }

    @Test func whatHasNoPlaceIsNamed() throws {
        var checkpoint = bytes(["w"])
        checkpoint.values = [
            .init(name: "ends", value: "x\0"), .init(name: "tree", value: ["a/b": ["c": 1]]),
            .init(name: "w", value: ["note": "kept", "inner": ["lost": 1]]),
        ]
        let (reader, notes) = try written(checkpoint)
        #expect(Fixture.leaves(try CheckpointDigest(of: reader)) == ["w/note": .string("kept")])
        for name in ["\"ends\"", "\"tree.a/b\"", "\"w.inner\""] {
            #expect(notes.contains { $0.contains(name) }, "\(name): \(notes)")
        }
    }

    @Test func anUnfinishedFileIsNone() throws {
        let storage = MemoryStorage()
        let writer = HDF5Writer(storage: storage, key: "f.h5")
        _ = try writer.begin(tensors: [TensorDescription(name: "w", scalarType: .u8, shape: [4])], values: [])
        #expect(throws: CairnError.self) { try writer.finish() }
        writer.discard()
        #expect(refusal { _ = try HDF5Reader(storage: storage, file: "f.h5") }?.code == .notFound)
        try storage.publish([1], as: "f.h5")
        let other = HDF5Writer(storage: storage, key: "f.h5")
        #expect(refusal { _ = try other.begin(tensors: [], values: []) }?.code == .alreadyExists)
    }
}
