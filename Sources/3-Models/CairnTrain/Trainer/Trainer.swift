internal import CTrainKernels
internal import CairnBase
package import CairnTensor

/// Trains a model, deterministically: equal state gives equal bits, whatever the threads do.
///
/// Everything that a step depends on is in ``trainingState``; a trainer that has been given that state continues bit for bit as
/// the one that it was taken from.
public final class Trainer {
    /// What a step did.
    public struct StepReport: Sendable, Hashable {
        /// The number of the step, the first being 0.
        public var step: Int
        /// The mean cross-entropy of the batch before the update, in nats.
        public var loss: Double
        public var learningRate: Double
        /// The norm of the gradient over all parameters, before clipping.
        public var gradientNorm: Double
        /// How unevenly experts share the tokens of a sequence, on average: 1 when evenly, at most the number of
        /// experts; `nil` without experts.
        public var expertBalance: Double?
    }

    let network: any Network
    let source: any ExampleSource
    var record: TrainingRecord
    /// What the run was set up with.
    package var options: TrainingOptions { record.options }
    /// The constants of the optimizer. The kind cannot be changed.
    package var optimizer: OptimizerConfiguration { record.optimizer }
    /// The learning rates; may be replaced between steps, to branch off a decay for example.
    package var schedule: LearningRateSchedule {
        get { record.schedule }
        set { record.schedule = newValue }
    }
    /// How many steps have been taken.
    public var stepCount: Int { record.stepCount }
    /// The loss of each step since the trainer was made; after a restore preceded by the last losses of the stored run.
    public var lossHistory: [Double] { record.lossHistory }
    /// Where the order of the examples has come to.
    package var loader: DataLoader { record.loader }
    /// What random choices are drawn from: the first weights, generated text.
    package var random: PhiloxGenerator { record.random }

    var weights: [Tensor] = []
    var updates: [ParameterUpdate] = []
    /// Where new values of shared tensors are written: the pool for a pipeline of snapshots.
    package let statePool: BufferPool
    private let workPool: BufferPool
    private let arena: Arena
    let workers: [any NetworkWorker]
    private let gradients: [GradientPointers]
    private let gradientSize: Int
    private let gradientOffsets: [Int]
    let expanded: ExpandedWeights
    private var batch = Batch()

    /// A trainer of a language model.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a model that cannot be, or that has fewer tokens or another
    ///   context than the text.
    public convenience init(
        transformer configuration: TransformerConfiguration, text: TextDataset, optimizer: OptimizerConfiguration,
        schedule: LearningRateSchedule, options: TrainingOptions = TrainingOptions()
    ) throws {
        try configuration.validate(for: text)
        try self.init(
            Transformer(configuration), text, tokenizer: text.tokenizer, optimizer: optimizer, schedule: schedule,
            options: options)
    }

    /// A trainer of a classifier of digits.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a model that cannot be, or that has not as many inputs and
    ///   classes as digits have.
    public convenience init(
        classifier configuration: PerceptronConfiguration, digits: DigitsDataset, optimizer: OptimizerConfiguration,
        schedule: LearningRateSchedule, options: TrainingOptions = TrainingOptions()
    ) throws {
        try configuration.validate()
        guard configuration.inputs == DigitsDataset.featureCount,
            configuration.classes >= DigitsDataset.classCount
        else {
            throw CairnError(
                .invalidArgument, "the model does not fit digits",
                .init(
                    expected: "\(DigitsDataset.featureCount) inputs, \(DigitsDataset.classCount) classes",
                    found: "\(configuration.inputs) inputs, \(configuration.classes) classes"))
        }
        try self.init(
            Perceptron(configuration), digits, tokenizer: nil, optimizer: optimizer, schedule: schedule,
            options: options)
    }

    package init(
        _ network: any Network, _ source: any ExampleSource, tokenizer: Tokenizer?,
        optimizer: OptimizerConfiguration, schedule: LearningRateSchedule, options: TrainingOptions
    ) throws {
        if options.swapsEnds { try Self.checkSwap(network, options) }
        record = try TrainingRecord(
            network, source, tokenizer: tokenizer, optimizer: optimizer, schedule: schedule, options: options)
        let parts = min(options.gradientParts, options.batchSize)
        let workPool = BufferPool(idleLimit: 1 << 30)
        let arena = Arena(pool: workPool)
        var offsets: [Int] = []
        var size = 0
        for parameter in network.parameters {
            offsets.append(size)
            // Whole cache lines, so that no two parameters share one.
            size += parameter.shape.elementCount.dividedRoundingUp(by: 16) * 16
        }
        self.network = network
        self.source = source
        self.workPool = workPool
        self.arena = arena
        statePool = BufferPool(idleLimit: 16 * size * MemoryLayout<Float>.stride + 1 << 24)
        gradientOffsets = offsets
        gradientSize = size
        let capacity = options.batchSize.dividedRoundingUp(by: parts)
        workers = (0..<parts).map { _ in network.makeWorker(exampleCapacity: capacity, pool: workPool) }
        gradients = (0..<parts).map { _ in
            let base = arena.floats(size)
            return GradientPointers(offsets.map { base + $0 })
        }
        expanded = ExpandedWeights(network.parameters, options.precision, arena)
        try initializeWeights()
        try resetOptimizer()
    }

    private static func checkSwap(_ network: any Network, _ options: TrainingOptions) throws(CairnError) {
        guard let transformer = network as? Transformer, transformer.layers.count >= 4,
            transformer.configuration.experts == nil
        else {
            throw CairnError(
                .invalidArgument, "only blocks of a transformer without experts go in another order",
                .init(expected: "a transformer of 4 blocks or more, all alike"))
        }
    }

    private func initializeWeights() throws {
        for parameter in network.parameters {
            let values = parameter.initialization.values(parameter.shape.elementCount, &record.random)
            weights.append(
                try Tensor(values, parameter.shape).converted(to: options.precision.scalarType, pool: statePool))
        }
        expanded.update(weights)
    }

    /// Starts the optimizer afresh from the weights as they are.
    func resetOptimizer() throws {
        updates = try zip(network.parameters, weights).enumerated().map { index, parameter in
            var update = try ParameterUpdate(
                parameter.0, weight: parameter.1, optimizer, hasAverage: options.average != nil, pool: statePool)
            // It is not part of the optimizer's state.
            if let average = updates.isEmpty ? nil : updates[index].average { update.average = average }
            return update
        }
        record.optimizerStep = 0
        record.restarts = [:]
    }

    /// Multiplies the learning rate of parameters whose optimizer began anew, until it does again.
    package func setRateFactor(_ factor: Double, ofRestarted isMeant: (String) -> Bool) {
        for name in record.restarts.keys where isMeant(name) { record.restarts[name]?.rateFactor = factor }
    }

    /// Takes one step: a batch forward and backward, the gradient clipped, the parameters updated.
    @discardableResult
    public func step() throws -> StepReport {
        batch.removeAll()
        for index in record.loader.next(options.batchSize) { source.append(index, of: .training, to: &batch) }
        let targets = options.batchSize * network.targetsPerExample
        swapEnds { options.swapsEnds && (record.stepCount + $0) % 2 == 1 }
        let result = gradientsOfBatch(scale: 1 / Float(targets))
        let norm = reduceGradients()
        try update(record.update(gradientNorm: norm))
        return record.finishStep(
            loss: result.lossSum / Double(targets), gradientNorm: norm,
            expertBalance: (network as? Transformer)?.configuration.expertBalance(result.balanceSum, targets: targets))
    }

    /// Takes `count` steps, calling `report` after each.
    public func train(steps count: Int, _ report: (StepReport) throws -> Void = { _ in }) throws {
        for _ in 0..<count { try report(try step()) }
    }

    /// Chooses the order of the blocks of each part.
    private func swapEnds(_ isSwapped: (Int) -> Bool) {
        for (part, worker) in workers.enumerated() {
            (worker as? TransformerWorker<NoPartners>)?.swapsEnds = isSwapped(part)
        }
    }

    /// Each part's gradients; returns the sum of what the parts found out.
    private func gradientsOfBatch(scale: Float) -> PassResult {
        let workers = self.workers
        let gradients = self.gradients
        let size = gradientSize
        let count = batch.exampleCount
        let parts = workers.count
        var results = [PassResult](repeating: PassResult(), count: parts)
        expanded.withPointers(weights) { weights in
            batch.withExamples { examples in
                results.withUnsafeMutableBufferPointer { buffer in
                    let results = SharedElements(buffer)
                    ParallelLoop.run(parts) { part in
                        gradients[part][0].update(repeating: 0, count: size)
                        results[part] = workers[part].run(
                            examples[part * count / parts..<(part + 1) * count / parts], weights: weights,
                            gradients: gradients[part], scale: scale)
                    }
                }
            }
        }
        return results.reduce(into: PassResult()) { $0.add($1) }
    }

    /// Adds up the parts' gradients in the first; returns the norm.
    private func reduceGradients() -> Double {
        let gradients = self.gradients
        let size = gradientSize
        // Large enough to be worth a thread; fixed, because the norm's bits depend on it.
        let chunk = 1 << 16
        let chunks = size.dividedRoundingUp(by: chunk)
        var squares = [Double](repeating: 0, count: chunks)
        squares.withUnsafeMutableBufferPointer { buffer in
            let squares = SharedElements(buffer)
            ParallelLoop.run(chunks) { index in
                let start = index * chunk
                let parts: [UnsafePointer<Float>?] = gradients.map { UnsafePointer($0[0] + start) }
                squares[index] = cairn_reduce(min(chunk, size - start), parts.count, parts, gradients[0][0] + start)
            }
        }
        return squares.reduce(0, +).squareRoot()
    }

    /// The gradient of the last step, before clipping.
    package func summedGradients() throws -> [String: Tensor] {
        var list: [String: Tensor] = [:]
        for (index, parameter) in network.parameters.enumerated() {
            let values = UnsafeBufferPointer(start: gradients[0][index], count: parameter.shape.elementCount)
            list[parameter.name] = try Tensor(Array(values), parameter.shape)
        }
        return list
    }

    private func update(_ step: ParameterUpdate.Step) throws {
        let gradients = self.gradients[0]
        let pool = statePool
        let isFrozen = network.parameters.map { options.isFrozen($0) }
        var failures = [(any Error)?](repeating: nil, count: weights.count)
        weights.withUnsafeMutableBufferPointer { weightBuffer in
            updates.withUnsafeMutableBufferPointer { updateBuffer in
                failures.withUnsafeMutableBufferPointer { failureBuffer in
                    let weights = SharedElements(weightBuffer)
                    let updates = SharedElements(updateBuffer)
                    let failures = SharedElements(failureBuffer)
                    ParallelLoop.run(weightBuffer.count) { index in
                        guard !isFrozen[index] else { return }
                        do {
                            try updates[index].apply(
                                step, gradient: UnsafePointer(gradients[index]), to: &weights[index], pool: pool)
                        } catch {
                            failures[index] = error
                        }
                    }
                }
            }
        }
        for failure in failures { if let failure { throw failure } }
        expanded.update(weights)
    }

    /// The mean loss and the accuracy over the first `limit` examples of a split, all by default.
    ///
    /// Changes nothing but buffers.
    public func evaluate(_ split: Split = .validation, limit: Int = .max) -> Evaluation {
        evaluate(split, 0..<min(max(0, limit), source.count(split)))
    }

    /// The mean loss and the accuracy over a range of examples.
    func evaluate(_ split: Split, _ range: Range<Int>) -> Evaluation {
        swapEnds { _ in false }
        let parts = workers.count
        let capacity = options.batchSize / parts * parts
        var total = PassResult()
        var start = range.lowerBound
        var examples = Batch()
        while start < range.upperBound {
            let end = min(range.upperBound, start + max(1, capacity))
            examples.removeAll()
            for index in start..<end { source.append(index, of: split, to: &examples) }
            let results = evaluate(examples)
            for result in results { total.add(result) }
            start = end
        }
        let targets = Double(max(1, range.count * network.targetsPerExample))
        return Evaluation(loss: total.lossSum / targets, accuracy: Double(total.correctCount) / targets)
    }

    private func evaluate(_ examples: Batch) -> [PassResult] {
        let workers = self.workers
        let count = examples.exampleCount
        let parts = workers.count
        var results = [PassResult](repeating: PassResult(), count: parts)
        expanded.withPointers(weights) { weights in
            examples.withExamples { all in
                results.withUnsafeMutableBufferPointer { buffer in
                    let results = SharedElements(buffer)
                    ParallelLoop.run(parts) { index in
                        let range = index * count / parts..<(index + 1) * count / parts
                        guard !range.isEmpty else { return }
                        results[index] = workers[index].run(all[range], weights: weights, gradients: nil, scale: 0)
                    }
                }
            }
        }
        return results
    }
}

/// How well a model does on examples.
public struct Evaluation: Sendable, Hashable {
    /// The mean cross-entropy, in nats.
    public var loss: Double
    /// The fraction of targets that were the most likely.
    public var accuracy: Double
}
