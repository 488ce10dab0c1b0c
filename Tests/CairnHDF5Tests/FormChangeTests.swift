import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnDigest
import CairnHDF5
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Our own files through our own reader, at the sizes where the format changes its form: headers of more than 512 bytes,
/// further blocks of them, attributes outside of headers, links in trees and heaps.
@Suite struct FormChangeTests {
    /// Writes and reads, and expects that everything is as it was.
    private func expectWhole(
        _ state: MemoryCheckpoint, _ what: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: state, to: HDF5Writer(storage: storage, key: "f.h5"))
        let reader = try HDF5Reader(storage: storage, file: "f.h5")
        let before = try CheckpointDigest(of: state)
        let after = try CheckpointDigest(of: reader)
        #expect(before.tensors == after.tensors, "\(what)", sourceLocation: sourceLocation)
        #expect(Fixture.leaves(before) == Fixture.leaves(after), "\(what)", sourceLocation: sourceLocation)
        #expect(reader.skippedEntries.isEmpty, "\(what): \(reader.skippedEntries)", sourceLocation: sourceLocation)
        #expect(try reader.verify(deep: true) { _ in }.isValid, "\(what)", sourceLocation: sourceLocation)
    }

    /// A BF16 tensor, whose type an attribute says, with values under its name and as many in a group.
    private func state(_ values: [String: Value]) throws -> MemoryCheckpoint {
        var state = MemoryCheckpoint()
        var generator = SeededGenerator(seed: 7)
        state.add("w", try .random(.bf16, [4, 2], using: &generator))
        state.values = [.init(name: "group", value: .dictionary(values)), .init(name: "w", value: .dictionary(values))]
        return state
    }

    @Test func textsOfEveryNumberComeBack() throws {
        for count in [1, 5, 6, 7, 8, 9, 10, 12, 16, 40, 300] {
            let texts = (0..<count).map { ("text_\($0)", Value.string("the value of \($0)")) }
            try expectWhole(state(Dictionary(uniqueKeysWithValues: texts)), "\(count) texts")
        }
    }

    @Test func namesOfEveryLengthComeBack() throws {
        for length in [1, 7, 8, 100, 230, 255, 256, 300, 400, 470, 500, 512, 1000, 60_000, 65_000] {
            let values: [String: Value] = [
                String(repeating: "n", count: length): "a text", String(repeating: "ü", count: length / 3 + 1): true,
            ]
            try expectWhole(state(values), "names of \(length) bytes")
        }
    }

    @Test func attributesOfEverySizeComeBack() throws {
        for count in [0, 1, 10, 35, 40, 60, 500, 8_180, 8_192, 9_000, 40_000] {
            let values: [String: Value] = [
                "numbers": .list((0..<count).map { .double(Double($0) / 2) }), "text": "beside it", "truth": true,
                "texts": .list((0..<count / 8).map { .string("text \($0)") }), "nul": .string("a\0b"),
                "unsigned": .unsigned(.max), "nothing": .null,
            ]
            try expectWhole(state(values), "\(count) numbers")
        }
        // Texts that differ much in length, more than a header holds.
        let long = String(repeating: "long ", count: 30_000)
        let texts = (0..<5_000).map { Value.string($0 == 2_500 ? long : "x") }
        try expectWhole(state(["texts": .list(texts), "nul": .string(long + "\0" + long)]), "one long text of many")
    }

    @Test func groupsOfEverySizeComeBack() throws {
        for count in [1, 8, 9, 40, 300] {
            var state = MemoryCheckpoint()
            for number in 0..<count {
                state.add("layers.\(number)/a name with ünï \(number)/%w", Tensor([UInt8(number & 255)]))
                state.add("many/" + String(repeating: "x", count: number % 300 + 1) + "_\(number)", Tensor([1 as Int32]))
            }
            try expectWhole(state, "\(count) links")
        }
        var state = MemoryCheckpoint()
        state.add([String](repeating: "g", count: 200).joined(separator: "/"), Tensor([1 as Float]))
        try expectWhole(state, "200 groups in each other")
    }

    @Test func shapesWithoutElementsComeBack() throws {
        var state = MemoryCheckpoint()
        for (index, shape) in [[0], [3, 0], [0, 0, 4], [1], [1, 1, 1, 1]].enumerated() {
            for scalarType in [ScalarType.f32, .bf16, .f8e4m3, .c64, .bool, .f4] where scalarType != .f4 || shape.last == 0 {
                let shape = Shape(shape)
                state.add("\(scalarType)/\(index)", try Tensor(scalarType, shape) { _ in })
            }
        }
        try expectWhole(state, "shapes")
        state.add("too many", try Tensor(.u8, Shape([Int](repeating: 1, count: 33))) { _ in })
        let storage = MemoryStorage()
        let error = refusal { _ = try copyCheckpoint(from: state, to: HDF5Writer(storage: storage, key: "f.h5")) }
        #expect(error?.code == .unsupported)
        #expect(error?.context.tensor == "too many")
    }

    /// What cannot come back is named, and nothing else is touched.
    @Test func namesakesAreNamed() throws {
        var state = try state(["dtype": "of the user", "kept": 1])
        state.values[0].value = .dictionary(["inner": .dictionary([:]), "kept": 2])
        state.values += [
            .init(name: "a", value: 5), .init(name: "a/b", value: ["c": 1]),
            .init(name: String(repeating: "n", count: 70_000), value: 1),
        ]
        let storage = MemoryStorage()
        let notes = try copyCheckpoint(from: state, to: HDF5Writer(storage: storage, key: "f.h5"))
        let after = try CheckpointDigest(of: HDF5Reader(storage: storage, file: "f.h5"))
        #expect(try CheckpointDigest(of: state).tensors == after.tensors)
        #expect(
            Fixture.leaves(after) == ["a/b/c": .integer(1), "group/kept": .integer(2), "w/kept": .integer(1)])
        for name in ["\"w.dtype\" is", "the value \"a\" is", "\"group.inner\" is", "the value \"nnnn"] {
            #expect(notes.contains { $0.contains(name) }, "\(name): \(notes)")
        }
    }
}
