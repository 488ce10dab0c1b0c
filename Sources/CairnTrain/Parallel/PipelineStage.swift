internal import CairnBase
internal import CairnCommunication
internal import CairnTensor

/// One rank's part of the passes over a batch.
///
/// Each micro-batch under way has buffers of its own. Activations go to the next stage and gradients to the one before
/// as messages that nobody waits for but the receiver.
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
            TransformerWorker(network, sequences: sequences, partners: CommunicatingPartners(groups.tensor), pool: pool)
        }
    }

    /// Runs this rank's examples forward and, given `gradients`, backward.
    ///
    /// - Returns: What the last stage found out; of the other stages nothing.
    func run(
        _ batch: Batch, weights: ParameterPointers, gradients: GradientPointers?, scale: Float
    ) throws -> PassResult {
        var total = PassResult()
        // All ranks that would exchange something have as few.
        guard batch.exampleCount > 0 else { return total }
        let passes = schedule.passes(
            stage: groups.pipeline.index, of: groups.pipeline.count, microBatches: microBatches)
        try batch.withExamples { examples in
            let count = examples.count
            for pass in passes {
                let part = pass.microBatch * count / microBatches..<(pass.microBatch + 1) * count / microBatches
                guard !part.isEmpty else { continue }
                let worker = workers[pass.microBatch % workers.count]
                if !pass.isBackward {
                    let result = try forward(examples[part], worker, weights, scale: scale, tag: 2 * pass.microBatch)
                    total.lossSum += result.lossSum
                    total.correctCount += result.correctCount
                } else if let gradients {
                    try backward(examples[part], worker, weights, gradients, tag: 2 * pass.microBatch + 1)
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
        try worker.forward(examples, weights)
        if network.part.isLastStage { return try worker.loss(examples, weights, scale: scale) }
        try send(worker.output, examples.count, to: stage + 1, tag: tag)
        return PassResult()
    }

    private func backward(
        _ examples: Examples, _ worker: TransformerWorker<CommunicatingPartners>, _ weights: ParameterPointers,
        _ gradients: GradientPointers, tag: Int
    ) throws(CairnError) {
        let stage = groups.pipeline.index
        if !network.part.isLastStage { try receive(worker.stream, examples.count, from: stage + 1, tag: tag) }
        try worker.backward(examples, weights, gradients)
        if !network.part.isFirstStage { try send(worker.stream, examples.count, to: stage - 1, tag: tag) }
    }

    /// The numbers of the residual stream of so many examples.
    private func count(_ examples: Int) -> Int {
        examples * network.configuration.context * network.configuration.width
    }

    private func send(
        _ values: UnsafeMutablePointer<Float>, _ examples: Int, to stage: Int, tag: Int
    ) throws(CairnError) {
        try groups.pipeline.communicator.send(
            UnsafeRawBufferPointer(UnsafeBufferPointer(start: values, count: count(examples))), to: stage, tag: tag)
    }

    private func receive(
        _ values: UnsafeMutablePointer<Float>, _ examples: Int, from stage: Int, tag: Int
    ) throws(CairnError) {
        try groups.pipeline.communicator.receive(
            UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(start: values, count: count(examples))),
            from: stage, tag: tag)
    }
}
