internal import CairnBase
internal import CairnCommunication
internal import CairnTensor

/// In which order a pipeline stage works on micro-batches.
///
/// Every order goes backward through the micro-batches in the same sequence, so all give the same bits.
public enum PipelineSchedule: String, Sendable, Hashable, CaseIterable {
    /// Backward as soon as possible (PipeDream-flush, Narayanan et al. 2021): a stage keeps the activations of as many
    /// micro-batches as there are stages from it to the end.
    case oneForwardOneBackward = "1f1b"
    /// All forward, then all backward (GPipe, Huang et al. 2019): a stage keeps the activations of all micro-batches.
    case allForwardFirst = "gpipe"
}

/// One micro-batch through one stage, in one direction.
package struct PipelinePass: Sendable, Hashable {
    package let microBatch: Int
    package let isBackward: Bool

    package init(_ microBatch: Int, isBackward: Bool) {
        self.microBatch = microBatch
        self.isBackward = isBackward
    }
}

extension PipelineSchedule {
    /// How many micro-batches a stage has under way at most.
    package func slotCount(stage: Int, of stageCount: Int, microBatches: Int) -> Int {
        switch self {
        case .oneForwardOneBackward: min(microBatches, stageCount - stage)
        case .allForwardFirst: microBatches
        }
    }

    /// What a stage does, in order.
    package func passes(stage: Int, of stageCount: Int, microBatches: Int) -> [PipelinePass] {
        // So many are under way before the first one goes back.
        let ahead = slotCount(stage: stage, of: stageCount, microBatches: microBatches)
        var passes = (0..<ahead).map { PipelinePass($0, isBackward: false) }
        for microBatch in 0..<microBatches {
            passes.append(PipelinePass(microBatch, isBackward: true))
            if microBatch + ahead < microBatches {
                passes.append(PipelinePass(microBatch + ahead, isBackward: false))
            }
        }
        return passes
    }
}

/// One rank's part of the passes over a batch.
///
/// Each micro-batch under way has buffers of its own. Activations go to the next stage and gradients to the one before
/// as messages that only the receiver waits for.
final class PipelineStage {
    private let groups: RankGroups
    private let network: Transformer
    private let schedule: PipelineSchedule
    private let microBatches: Int
    private let workers: [TransformerWorker<CommunicatingPartners>]

    /// - Parameter capacity: the most examples that the rank gets in a batch.
    init(
        _ network: Transformer, _ groups: RankGroups, _ parallel: ParallelConfiguration, capacity: Int,
        pool: BufferPool
    ) {
        self.groups = groups
        self.network = network
        schedule = parallel.schedule
        microBatches = parallel.microBatchCount
        let slots = schedule.slotCount(
            stage: groups.pipeline.index, of: groups.pipeline.count, microBatches: microBatches)
        let sequences = capacity.dividedRoundingUp(by: microBatches)
        workers = (0..<slots).map { _ in
            TransformerWorker(network, sequences: sequences, partners: CommunicatingPartners(groups), pool: pool)
        }
    }

    /// Runs this rank's examples forward and, given `gradients`, backward.
    ///
    /// - Returns: What this stage found out: the loss only the last one, the balance of its layers each.
    func run(
        _ batch: Batch, weights: ParameterPointers, gradients: GradientPointers?, scale: Float
    ) throws -> PassResult {
        var total = PassResult()
        // Ranks that exchange tokens with others that have some take part without any of their own; else all ranks that
        // would exchange something have as few.
        let takesPart = groups.experts.count > 1
        guard batch.exampleCount > 0 || takesPart else { return total }
        let passes = schedule.passes(
            stage: groups.pipeline.index, of: groups.pipeline.count, microBatches: microBatches)
        try batch.withExamples { examples in
            let count = examples.count
            for pass in passes {
                let part = pass.microBatch * count / microBatches..<(pass.microBatch + 1) * count / microBatches
                guard !part.isEmpty || takesPart else { continue }
                let worker = workers[pass.microBatch % workers.count]
                if !pass.isBackward {
                    let result = try forward(examples[part], worker, weights, scale: scale, tag: 2 * pass.microBatch)
                    total.add(result)
                } else if let gradients {
                    try backward(
                        examples[part], worker, weights, gradients, scale: scale, tag: 2 * pass.microBatch + 1)
                }
            }
        }
        return total
    }

    private func forward(
        _ examples: Examples, _ worker: TransformerWorker<CommunicatingPartners>, _ weights: ParameterPointers,
        scale: Float, tag: Int
    ) throws(CairnError) -> PassResult {
        let stage = groups.pipeline.index
        if !network.part.isFirstStage { try receive(worker.input, examples.count, from: stage - 1, tag: tag) }
        var result = PassResult()
        result.balanceSum = try worker.forward(examples, weights)
        if network.part.isLastStage {
            result.add(try worker.loss(examples, weights, scale: scale))
        } else {
            try send(worker.output, examples.count, to: stage + 1, tag: tag)
        }
        return result
    }

    private func backward(
        _ examples: Examples, _ worker: TransformerWorker<CommunicatingPartners>, _ weights: ParameterPointers,
        _ gradients: GradientPointers, scale: Float, tag: Int
    ) throws(CairnError) {
        let stage = groups.pipeline.index
        if !network.part.isLastStage { try receive(worker.stream, examples.count, from: stage + 1, tag: tag) }
        try worker.backward(examples, weights, gradients, scale: scale)
        if !network.part.isFirstStage { try send(worker.stream, examples.count, to: stage - 1, tag: tag) }
    }

    /// The numbers of the residual stream of so many examples.
    private func count(_ examples: Int) -> Int {
        examples * network.configuration.context * network.configuration.width
    }

    private func send(
        _ values: UnsafeMutablePointer<Float>, _ examples: Int, to stage: Int, tag: Int
    ) throws(CairnError) {
        guard examples > 0 else { return }
        try groups.pipeline.communicator.send(
            UnsafeRawBufferPointer(UnsafeBufferPointer(start: values, count: count(examples))), to: stage, tag: tag)
    }

    private func receive(
        _ values: UnsafeMutablePointer<Float>, _ examples: Int, from stage: Int, tag: Int
    ) throws(CairnError) {
        guard examples > 0 else { return }
        try groups.pipeline.communicator.receive(
            UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(start: values, count: count(examples))),
            from: stage, tag: tag)
    }
}
