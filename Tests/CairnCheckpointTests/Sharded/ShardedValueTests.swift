import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor
import Testing

/// Values of a state that lies on ranks are set, replaced and decoded by name, those of the state and those of one rank apart.
@Suite struct ShardedValueTests {
    private struct Progress: Codable, Equatable {
        var step = 7
        var seeds: [UInt64] = [1, .max]
    }

    private func state() throws -> ShardedState { try ShardedState(rank: 1, rankCount: 2, tensors: []) }

    @Test func whatWasSetIsDecodedAgain() throws {
        var state = try state()
        try state.set(encoding: Progress(), for: "progress")
        try state.set(encoding: Progress(step: 9), for: "progress", of: .rank)
        #expect(try state.decode(Progress.self, for: "progress") == Progress())
        #expect(try state.decode(Progress.self, for: "progress", of: .rank) == Progress(step: 9))
        state.set(.integer(3), for: "progress")
        #expect(state.values.count == 1)
        #expect(try state.value("progress") == .integer(3))
        #expect(try state.decode(Progress.self, for: "progress", of: .rank).step == 9)
    }

    @Test func whatIsMissingOrOfAnotherKindIsAnErrorThatNamesIt() throws {
        var state = try state()
        state.set(.string("x"), for: "name")
        let missing = #expect(throws: CairnError.self) { try state.value("nome") }
        #expect(missing?.code == .notFound)
        #expect(missing?.context.expected == "name")
        let ofRank = #expect(throws: CairnError.self) { try state.value("name", of: .rank) }
        #expect(ofRank?.context.rank == 1)
        #expect(throws: (any Error).self) { try state.decode(Progress.self, for: "name") }
    }

    /// Names are bytes: two spellings of one letter are two names.
    @Test func namesAreComparedByTheirBytes() throws {
        var state = try state()
        state.set(.integer(1), for: "caf\u{E9}")
        state.set(.integer(2), for: "cafe\u{301}")
        #expect(state.values.count == 2)
        #expect(try state.value("caf\u{E9}") == .integer(1))
    }

    @Test func aDescriptionIsPlacedAsItIs() throws {
        let mesh = try DeviceMesh(["tp": 2])
        let description = TensorDescription(name: "w", scalarType: .bf16, shape: [4, 6])
        let layout = try Layout(mesh, ["tp": .shard(1)])
        #expect(
            PlacedTensor(description, layout: layout)
                == PlacedTensor(name: "w", scalarType: .bf16, shape: [4, 6], layout: layout))
    }
}
