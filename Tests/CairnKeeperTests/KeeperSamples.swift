import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting

import CairnKeeper

/// A keeper of its own for a test, ended with it.
final class TestKeeper: Sendable {
    let keeper: Keeper
    private let directory: TemporaryDirectory

    init(memory: Int = 64 << 20, memoryPerUser: Int? = nil) throws {
        directory = try TemporaryDirectory()
        var options = KeeperOptions(memory: memory)
        options.memoryPerUser = memoryPerUser
        keeper = try Keeper(at: directory.path("keeper"), options: options)
    }

    deinit { keeper.stop() }

    func storage(_ job: String = "job", timeout: Duration = .seconds(20)) throws -> KeeperStorage {
        try KeeperStorage(job: job, at: keeper.path, timeout: timeout)
    }

    func store(_ job: String = "job") throws -> CheckpointStore {
        CheckpointStore(storage: try storage(job), name: "keeper")
    }

    /// What is known of a job; `nil` for one that is not there.
    func job(_ name: String = "job") -> KeeperStatus.Job? { keeper.status.jobs.first { $0.name == name } }
}

/// A small state that differs from step to step.
func sampleState(_ step: Int, elements: Int = 5000) throws -> TrainingState {
    var state = TrainingState()
    state.set(Tensor((0..<elements).map { Float($0 * 7 % 1001) + Float(step) }), for: "model.weight")
    state.set(Tensor([Int64(step)]), for: "data.position")
    state.set(.integer(Int64(step)), for: "step")
    return state
}
