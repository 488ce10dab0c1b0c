import Cairn
import CairnCommunication
import CairnReshard
import CairnTrain

/// A run whose ranks are threads: each trains its part, and all save one checkpoint together.
///
/// The checkpoint is that of a run on one rank: either goes on from the other's, and from one of any other mesh.
struct ParallelRun: Sendable {
    var options: RunOptions
    var parallel: ParallelConfiguration
    var store: CheckpointStore
    var folder: String
    var saveEvery: Int
    var keepLast: Int
    /// What the run goes on from.
    var start: CairnReader?
    var withoutOptimizer: Bool
    var lineage: Lineage

    func run() throws {
        let text = try options.makeText()
        _ = try ThreadCommunicator.run(ranks: parallel.mesh.rankCount) { communicator in
            try train(text, communicator)
        }
    }

    private func train(_ text: TextDataset, _ communicator: any Communicator) throws {
        let trainer = try options.makeTrainer(text, parallel, communicator)
        if let start { try restore(trainer, start) }
        let shared = try ShardedStore(store, over: communicator)
        let isFirst = communicator.rank == 0
        var log = LossLog(folder: folder)
        if isFirst, start != nil { try log.load(upTo: trainer.stepCount) }
        while trainer.stepCount < options.steps {
            let report = try trainer.step()
            let isLast = trainer.stepCount == options.steps
            if isFirst {
                log.append(report)
                if trainer.stepCount % 10 == 0 || isLast { say("step \(trainer.stepCount)  loss \(decimal(report.loss))") }
            }
            guard trainer.stepCount % saveEvery == 0 || isLast else { continue }
            if isFirst { try log.write() }
            try save(trainer, shared, report)
            if isFirst {
                say("saved step \(trainer.stepCount)")
                _ = try store.prune(RetentionPolicy(keepLast: keepLast))
            }
        }
    }

    private func restore(_ trainer: ParallelTrainer, _ reader: CairnReader) throws {
        let wanted = trainer.placedTensors.filter { !withoutOptimizer || !$0.name.hasPrefix("optimizer.") }
        let plan = try ReadPlan(reading: reader, rank: trainer.rank, tensors: wanted)
        try trainer.restore(plan.execute(reading: reader), withoutOptimizer: withoutOptimizer)
    }

    private func save(_ trainer: ParallelTrainer, _ shared: ShardedStore, _ report: Trainer.StepReport) throws {
        var options = SaveOptions()
        options.metrics = ["loss": report.loss]
        options.lineage = lineage
        options.replacing = true
        try shared.save(trainer.shardedState, step: trainer.stepCount, options: options)
    }
}
