internal import CTrainKernels
internal import CairnBase
package import CairnTensor

/// Trains a model, deterministically: equal state gives equal bits, whatever the threads do.
///
/// Everything that a step depends on is in ``state()``; a trainer that has been given that state goes on bit for bit as the
/// one that it was taken from.
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
    }

    let network: any Network
    let source: any ExampleSource
    let tokenizer: Tokenizer?
    /// What the run was set up with.
    public let options: TrainingOptions
    /// The constants of the optimizer. The kind cannot be changed.
    public internal(set) var optimizer: OptimizerConfiguration
    /// The learning rates; may be replaced between steps, to branch off a decay for example.
    public var schedule: LearningRateSchedule
    /// How many steps have been taken.
    public internal(set) var stepCount = 0
    /// The loss of each step since the trainer was made; after a restore preceded by the last losses of the stored run.
    public internal(set) var lossHistory: [Double] = []
    /// Where the order of the examples has come to.
    public internal(set) var loader: DataLoader
    /// What random choices are drawn from: the first weights, generated text.
    public internal(set) var random: PhiloxGenerator

    var weights: [Tensor] = []
    var updates: [ParameterUpdate] = []
    /// The steps that the optimizer's state has seen.
    var optimizerStep = 0
    /// Where new values of shared tensors are written.
    package let statePool: BufferPool
    private let workPool: BufferPool
    private let arena: Arena
    private let workers: [any NetworkWorker]
    private let gradients: [GradientPointers]
    private let gradientSize: Int
    private let gradientOffsets: [Int]
    /// The weights as numbers to compute with, where the model keeps rounded ones.
    private let expanded: UnsafeMutablePointer<Float>?
    private var batch = Batch()

    /// A trainer of a language model.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a model that cannot be, or that has fewer tokens or another
    ///   context than the text.
    public convenience init(
        transformer configuration: TransformerConfiguration, text: TextDataset, optimizer: OptimizerConfiguration,
        schedule: LearningRateSchedule, options: TrainingOptions = TrainingOptions()
    ) throws {
        try configuration.validate()
        guard configuration.context == text.context,
            configuration.vocabularySize >= text.tokenizer.vocabularySize
        else {
            throw CairnError(
                .invalidArgument, "the model does not fit the text",
                .init(
                    expected: "context \(text.context), at least \(text.tokenizer.vocabularySize) tokens",
                    found: "context \(configuration.context), \(configuration.vocabularySize) tokens"))
        }
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
        guard options.batchSize > 0, options.gradientParts > 0, source.count(.training) > 0 else {
            throw CairnError(.invalidArgument, "batch size, gradient parts and examples are all at least one")
        }
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
        self.tokenizer = tokenizer
        self.optimizer = optimizer
        self.schedule = schedule
        self.options = options
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
        expanded = options.precision == .float32 ? nil : arena.floats(size)
        loader = DataLoader(exampleCount: source.count(.training), seed: options.seed)
        random = PhiloxGenerator(key: options.seed, stream: 1)
        try initializeWeights()
        try resetOptimizer()
    }

    private func initializeWeights() throws {
        for parameter in network.parameters {
            let count = parameter.shape.elementCount
            let values: [Float] =
                switch parameter.initialization {
                case .zeros: [Float](repeating: 0, count: count)
                case .ones: [Float](repeating: 1, count: count)
                case .normal(let deviation): (0..<count).map { _ in Float(random.normal()) * deviation }
                }
            weights.append(try stored(Tensor(values, parameter.shape)))
        }
        expandWeights()
    }

    /// The type in which the model keeps weights.
    var weightType: ScalarType { options.precision == .float32 ? .f32 : .bf16 }

    private func stored(_ tensor: Tensor) throws -> Tensor { try tensor.converted(to: weightType, pool: statePool) }

    /// Starts the optimizer afresh from the weights as they are.
    func resetOptimizer() throws {
        updates = try zip(network.parameters, weights).map { parameter, weight in
            try ParameterUpdate(parameter, weight: weight, optimizer, pool: statePool)
        }
        optimizerStep = 0
    }

    /// Brings ``expanded`` up to date with the weights.
    func expandWeights() {
        guard let expanded else { return }
        for (tensor, offset) in zip(weights, gradientOffsets) {
            tensor.bytes.withUnsafeBytes { bytes in
                let rounded = bytes.assumingMemoryBound(to: BFloat16.self)
                for index in rounded.indices { expanded[offset + index] = Float(rounded[index]) }
            }
        }
    }

    /// Calls `body` with the weights' addresses, which hold as long as it runs.
    func withWeightPointers<Result>(_ body: (ParameterPointers) throws -> Result) rethrows -> Result {
        if let expanded { return try body(ParameterPointers(gradientOffsets.map { UnsafePointer(expanded + $0) })) }
        let kept = weights
        defer { withExtendedLifetime(kept) {} }
        return try body(
            ParameterPointers(
                kept.map { tensor in
                    UnsafePointer((tensor.storage.base + tensor.byteOffset).assumingMemoryBound(to: Float.self))
                }))
    }

    /// Takes one step: a batch forward and backward, the gradient clipped, the parameters updated.
    @discardableResult
    public func step() throws -> StepReport {
        batch.removeAll()
        for index in loader.next(options.batchSize) { source.append(index, of: .training, to: &batch) }
        let targets = options.batchSize * network.targetsPerExample
        let loss = gradientsOfBatch(scale: 1 / Float(targets)) / Double(targets)
        let norm = reduceGradients()
        var scale: Float = 1
        if let limit = options.maximumGradientNorm, norm > limit { scale = Float(limit / (norm + 1e-6)) }
        let rate = schedule.rate(step: stepCount)
        try update(
            ParameterUpdate.Step(
                configuration: optimizer, learningRate: rate, number: optimizerStep + 1, gradientScale: scale))
        optimizerStep += 1
        defer { stepCount += 1 }
        lossHistory.append(loss)
        return StepReport(step: stepCount, loss: loss, learningRate: rate, gradientNorm: norm)
    }

    /// Takes `count` steps, calling `report` after each.
    public func train(steps count: Int, _ report: (StepReport) throws -> Void = { _ in }) throws {
        for _ in 0..<count { try report(try step()) }
    }

    /// Each part's gradients; returns the sum of the losses.
    private func gradientsOfBatch(scale: Float) -> Double {
        let workers = self.workers
        let gradients = self.gradients
        let size = gradientSize
        let count = batch.exampleCount
        let parts = workers.count
        var results = [PassResult](repeating: PassResult(), count: parts)
        withWeightPointers { weights in
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
        return results.reduce(0) { $0 + $1.lossSum }
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

    private func update(_ step: ParameterUpdate.Step) throws {
        let gradients = self.gradients[0]
        let pool = statePool
        var failures = [(any Error)?](repeating: nil, count: weights.count)
        weights.withUnsafeMutableBufferPointer { weightBuffer in
            updates.withUnsafeMutableBufferPointer { updateBuffer in
                failures.withUnsafeMutableBufferPointer { failureBuffer in
                    let weights = SharedElements(weightBuffer)
                    let updates = SharedElements(updateBuffer)
                    let failures = SharedElements(failureBuffer)
                    ParallelLoop.run(weightBuffer.count) { index in
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
        expandWeights()
    }

    /// The mean loss and the accuracy over the first `limit` examples of a split, all by default.
    ///
    /// Changes nothing but buffers.
    public func evaluate(_ split: Split = .validation, limit: Int = .max) -> Evaluation {
        let count = min(limit, source.count(split))
        let parts = workers.count
        let capacity = options.batchSize / parts * parts
        var total = PassResult()
        var start = 0
        var examples = Batch()
        while start < count {
            let end = min(count, start + max(1, capacity))
            examples.removeAll()
            for index in start..<end { source.append(index, of: split, to: &examples) }
            let results = evaluate(examples)
            for result in results {
                total.lossSum += result.lossSum
                total.correctCount += result.correctCount
            }
            start = end
        }
        let targets = Double(max(1, count * network.targetsPerExample))
        return Evaluation(loss: total.lossSum / targets, accuracy: Double(total.correctCount) / targets)
    }

    private func evaluate(_ examples: Batch) -> [PassResult] {
        let workers = self.workers
        let count = examples.exampleCount
        let parts = workers.count
        var results = [PassResult](repeating: PassResult(), count: parts)
        withWeightPointers { weights in
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
