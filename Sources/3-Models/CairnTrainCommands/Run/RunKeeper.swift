import Cairn
import CairnCheckpoint
import CairnCommunication
import CairnKeeper
import CairnReshard
import CairnSnapshot

/// The keeper that a run saves to besides its folder, and goes on from when it was killed.
struct RunKeeper: Sendable {
    /// Where it listens.
    var path: String
    /// What it calls the run.
    var job: String
    /// Every how many steps a snapshot goes there.
    var every: Int

    /// How many snapshots it has of the run: while one is being drained the last one is whole.
    private static let keptCount = 1

    /// The run's checkpoints in the keeper; `nil`, with a word, where there is none: a run does not fail for that.
    func store(_ note: (String) -> Void) -> CheckpointStore? {
        do throws(CairnError) {
            return CheckpointStore(storage: try KeeperStorage(job: job, at: path), name: "keeper:\(job)")
        } catch {
            note("without the keeper: \(error)")
            return nil
        }
    }

    /// How its pipeline works.
    static func options(_ plan: RunPlan) -> SnapshotOptions {
        var options = RunSaves.pipelineOptions(plan)
        options.retention = RetentionPolicy(keepLast: keptCount)
        return options
    }
}

extension RunPlan {
    /// The run's checkpoints in the keeper, where all ranks reach one.
    ///
    /// A collective call.
    func keeperStore(_ communicator: (any Communicator)? = nil) throws(CairnError) -> CheckpointStore? {
        guard let keeper else { return nil }
        let store = keeper.store(communicator.map { $0.rank == 0 } ?? true ? note : { _ in })
        guard let communicator else { return store }
        var reached = [store == nil ? 0.0 : 1]
        try communicator.allReduceSum(&reached)
        return Int(reached[0]) == communicator.size ? store : nil
    }
}
