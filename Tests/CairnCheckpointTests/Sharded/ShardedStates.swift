import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnTensor

/// A small state on two ranks: a matrix in rows, a vector that both have, values.
struct ShardedSample {
    let seed: Int

    /// The tensors and their layouts.
    static func tensors() throws -> [PlacedTensor] {
        let mesh = try DeviceMesh(["tp": 2])
        return [
            PlacedTensor(
                name: "matrix", scalarType: .f32, shape: [6, 500], layout: try Layout(mesh, ["tp": .shard(0)])),
            PlacedTensor(name: "vector", scalarType: .f32, shape: [5], layout: .replicated(on: mesh)),
        ]
    }

    private func matrix(rows: Range<Int>) throws -> Tensor {
        try Tensor((rows.lowerBound * 500..<rows.upperBound * 500).map { Float(seed * 10_000 + $0) }, [rows.count, 500])
    }

    private func vector() throws -> Tensor { try Tensor((0..<5).map { Float(seed * 7 + $0) }, [5]) }

    /// All of it.
    func whole() throws -> TrainingState {
        var state = TrainingState()
        state.set(try matrix(rows: 0..<6), for: "matrix")
        state.set(try vector(), for: "vector")
        state.set(.integer(Int64(seed)), for: "seed")
        return state
    }

    /// A rank's part.
    func part(ofRank rank: Int) throws -> ShardedState {
        var state = try ShardedState(rank: rank, rankCount: 2, tensors: Self.tensors())
        try state.set(matrix(rows: rank * 3..<rank * 3 + 3), for: "matrix")
        try state.set(vector(), for: "vector")
        state.values = [NamedValue(name: "seed", value: .integer(Int64(seed)))]
        state.rankValues = [NamedValue(name: "rank", value: .integer(Int64(rank)))]
        return state
    }

    /// Saves with two ranks.
    func save(in store: CheckpointStore, step: Int, replacing: Bool = false) throws {
        let outcomes = try Self.outcomes { communicator in
            var options = repeatableOptions(seed)
            options.replacing = replacing
            try ShardedStore(store, over: communicator)
                .save(part(ofRank: communicator.rank), step: step, options: options)
        }
        for error in outcomes { if let error { throw error } }
    }

    /// What each of two ranks ends with: its error, or nothing.
    static func outcomes(
        _ body: @escaping @Sendable (any Communicator) throws -> Void
    ) throws -> [CairnError?] {
        try ThreadCommunicator.run(ranks: 2) { communicator in
            do {
                try body(communicator)
                return nil
            } catch let error as CairnError {
                return error
            }
        }
    }
}
