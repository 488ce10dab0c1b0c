import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// What a format claims to hold comes back as it was; what it does not hold is refused or said, as its entry has it.
@Suite struct RoundTripTests {
    @Test(arguments: WritableFormat.all) func aRandomStateComesBack(format: WritableFormat) throws {
        for seed in 1...12 as ClosedRange<UInt64> {
            let state = try format.randomState(seed: seed)
            let storage = MemoryStorage()
            let notes = try copyCheckpoint(from: state, to: format.makeWriter(storage, false), bufferByteCount: 100)
            #expect(notes == format.notes(state.tensors, state.values), "seed \(seed)")
            let reader = try format.openWithoutAdditions(storage)
            #expect(try difference(state, reader) == nil, "seed \(seed)")
            #expect(reader.skippedEntries.isEmpty, "seed \(seed)")
            #expect(try reader.verify(deep: true) { _ in }.isValid, "seed \(seed)")
        }
    }

    @Test(arguments: WritableFormat.all) func aTypeComesBackOrIsRefusedByName(format: WritableFormat) throws {
        var generator = SeededGenerator(seed: 1)
        for type in ScalarType.allCases {
            let name = format.tensorName("w")
            let state = MemoryCheckpoint([name: try .random(type, [2, 8], using: &generator)])
            let storage = MemoryStorage()
            let copy = { _ = try copyCheckpoint(from: state, to: format.makeWriter(storage, false)) }
            if format.scalarTypes.contains(type) {
                try copy()
                #expect(try difference(state, format.open(storage)) == nil, "\(type)")
            } else {
                let error = refusal(copy)
                #expect(error?.code == .unsupported && error?.context.tensor == name, "\(type): \(String(describing: error))")
                #expect(try storage.list("").isEmpty, "\(type)")
            }
        }
    }

    @Test(arguments: WritableFormat.all) func aValueComesBackOrItIsSaid(format: WritableFormat) throws {
        for sample in SampleValues.all {
            var state = MemoryCheckpoint([format.tensorName("w"): Tensor([1, 2] as [Float])])
            state.values = [NamedValue(name: sample.name, value: sample.value)]
            let storage = MemoryStorage()
            let notes = try copyCheckpoint(from: state, to: format.makeWriter(storage, false))
            let fate = format.valueFates[sample.name] ?? .init(back: sample.value)
            #expect(notes == format.notes(state.tensors, state.values) + [fate.note].compactMap(\.self), "\(sample.name)")
            let back = fate.back.map { [NamedValue(name: sample.name, value: $0)] } ?? []
            #expect(try format.openWithoutAdditions(storage).values == back, "\(sample.name)")
        }
    }

    /// A state as PyTorch's users have it: a model and an optimizer in one dictionary.
    private static let nested = StateNode.dictionary([
        .init(key: "model", node: .dictionary([.init(key: "w", node: .tensor("model.w"))])),
        .init(
            key: "optimizer",
            node: .list([
                .dictionary([.init(key: "lr", node: .value(0.5)), .init(key: "m", node: .tensor("optimizer.0.m"))]),
                .tensor("optimizer.1"),
            ])),
        .init(key: "step", node: .value(3)),
    ])

    /// A nested state in words, the members of dictionaries sorted.
    private func text(_ node: StateNode) -> String {
        switch node {
        case .tensor(let name): "<\(name)>"
        case .value(let value): "\(value)"
        case .list(let nodes): "[" + nodes.map(text).joined(separator: ", ") + "]"
        case .tuple(let nodes): "(" + nodes.map(text).joined(separator: ", ") + ")"
        case .dictionary(let members):
            "{" + members.map { "\($0.key): \(text($0.node))" }.sorted().joined(separator: ", ") + "}"
        case .typed(let kind, let inner): "\(kind) \(text(inner))"
        }
    }

    @Test(arguments: WritableFormat.all.filter { $0.greatestTensorCount > 1 && $0.tensorName("w") == "w" })
    func aNestedStateComesBackNestedOrItIsSaid(format: WritableFormat) throws {
        let names = ["model.w", "optimizer.0.m", "optimizer.1"]
        let values = [
            NamedValue(name: "optimizer", value: [["lr": 0.5]]), NamedValue(name: "step", value: 3),
        ]
        let storage = MemoryStorage()
        let writer = try format.makeWriter(storage, false)
        let tensors = names.map { TensorDescription(name: $0, scalarType: .u8, shape: [2]) }
        let notes = try writer.begin(tensors: tensors, values: values, structure: Self.nested)
        for number in 0..<3 as Range<UInt8> { try writer.append([number, number].span.bytes) }
        try writer.finish()
        let reader = try format.open(storage)
        #expect(reader.tensors.map(\.name) == names)
        for (number, name) in names.enumerated() { #expect(try reader.whole(name) == [UInt8(number), UInt8(number)]) }
        #expect(reader.values == values)
        if format.keepsNesting {
            #expect(reader.structure.map(text) == text(Self.nested))
            #expect(notes == format.notes(tensors, values))
        } else {
            #expect(reader.structure == nil)
            #expect(
                notes == format.notes(tensors, values)
                    + ["\"model\", \"optimizer\": nests tensors, which is kept in their names alone"])
        }
    }

    @Test(arguments: WritableFormat.all.filter { $0.greatestTensorCount < .max })
    func moreTensorsThanThereIsRoomForAreRefused(format: WritableFormat) throws {
        let tensors = (0...format.greatestTensorCount).map { TensorDescription(name: "\($0)", scalarType: .f32, shape: [2]) }
        let storage = MemoryStorage()
        #expect(refusal { _ = try format.makeWriter(storage, false).begin(tensors: tensors, values: []) }?.code == .unsupported)
        #expect(try storage.list("").isEmpty)
    }

    @Test(arguments: WritableFormat.all.filter(\.keepsTies)) func aTieToWhatIsNotWrittenIsRefused(format: WritableFormat) throws {
        let tensors = [
            TensorDescription(name: format.tensorName("a"), scalarType: .f32, shape: [2]),
            TensorDescription(name: format.tensorName("b"), scalarType: .f32, shape: [2], tiedTo: format.tensorName("c")),
        ]
        let storage = MemoryStorage()
        let error = refusal {
            let writer = try format.makeWriter(storage, false)
            defer { writer.discard() }
            _ = try writer.begin(tensors: tensors, values: [])
            try writer.append(([0, 0, 0, 0, 0, 0, 0, 0] as [UInt8]).span.bytes)
            try writer.finish()
        }
        #expect(error?.code == .invalidArgument, "\(String(describing: error))")
        #expect(try storage.list("").isEmpty)
    }
}
