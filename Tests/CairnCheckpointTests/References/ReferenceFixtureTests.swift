#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif
import CairnBase
import CairnCheckpoint
import CairnCommunication
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// The committed run whose checkpoints refer to earlier ones: every later version must read it.
@Suite struct ReferenceFixtureTests {
    private static func state(_ versions: [Int]) -> TrainingState {
        var state = TrainingState()
        for (index, version) in versions.enumerated() {
            let first = version * 1000 + index
            state.set(Tensor((0..<[900, 700, 300, 40][index]).map { Float(first + $0) }), for: "layers.\(index)")
        }
        state.set(.integer(Int64(versions.reduce(0, +))), for: "progress")
        return state
    }

    private static func requireFixture(_ store: CheckpointStore) throws {
        #expect(try store.steps() == [3, 12])
        #expect(try store.load(step: 3) == state([0, 0, 0, 2]))
        #expect(try store.load(step: 12) == ShardedSample(seed: 1).whole())
        for step in [3, 12] { #expect(try store.open(step: step).verify(deep: true).isValid) }
        #expect(try store.open(step: 3).manifest.earlier.map(\.step) == [1])
        #expect(try store.open(step: 12).manifest.earlier.map(\.step) == [11, 11])
    }

    @Test func theCommittedRunIsRead() throws {
        try Self.requireFixture(CheckpointStore(path: Repository.fixture("cairn/references")))
    }

    /// Writes the run: steps 1 and 11 are deleted as far as nothing refers to them.
    @Test func theSameRunIsWrittenAnew() throws {
        let folder = try TemporaryDirectory()
        let store = CheckpointStore(
            path: getenv("CAIRN_FRESH_REFERENCES").map { String(cString: $0) } ?? folder.path("run"))
        @Sendable func options(_ step: Int) -> SaveOptions {
            var options = repeatableOptions(step)
            options.reusesUnchanged = true
            return options
        }
        for (step, versions) in [(1, [0, 0, 0, 0]), (2, [0, 0, 0, 1]), (3, [0, 0, 0, 2])] {
            try store.save(Self.state(versions), step: step, options: options(step))
        }
        for step in [11, 12] {
            for error in try ShardedSample.outcomes({ communicator in
                try ShardedStore(store, over: communicator)
                    .save(ShardedSample(seed: 1).part(ofRank: communicator.rank), step: step, options: options(step))
            }) {
                if let error { throw error }
            }
        }
        for step in [1, 2, 11] { try store.delete(step: step) }
        try Self.requireFixture(store)
    }
}
