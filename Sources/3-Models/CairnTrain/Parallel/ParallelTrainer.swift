internal import CTrainKernels
internal import CairnBase
public import CairnCommunication
internal import CairnLayout
package import CairnTensor

/// One rank of a transformer's training by many.
///
/// Every rank makes one and calls the same methods in the same order. Together they do what one ``Trainer`` does with
/// the same model, data and options: the same batches in the same order, the same first weights, the same clipping of
/// the gradient over all parameters; losses differ by rounding alone. On the same mesh the same state gives the same
/// bits.
///
/// A rank computes on the thread that calls it, so that as many ranks as there are processors share a machine well.
/// ``TrainingOptions/gradientParts`` has no effect; it is stored with the state.
public final class ParallelTrainer {
    let plan: PlacementPlan
    let network: Transformer
    let groups: RankGroups
    /// How the work is sharded.
    package let parallel: ParallelConfiguration
    /// The index in the plan of each of this rank's parameters.
    let indices: [Int]
    var record: TrainingRecord
    var weights: [Tensor] = []
    /// `nil` where other ranks keep the state.
    var updates: [ParameterUpdate?] = []
    /// Where new values of shared tensors are written: the pool for a pipeline of snapshots.
    package let pool: BufferPool
    let expanded: ExpandedWeights
    let memory: GradientMemory
    let source: TextDataset
    private let stage: PipelineStage
    /// Muon's matrices that tensor parallelism shards.
    let matrices: [ShardedMatrix?]
    private var batch = Batch()
    /// Which training examples this rank took in the last step.
    package private(set) var lastExamples: [Int] = []

    /// This rank of the mesh.
    package var rank: Int { groups.world.rank }
    /// Whether no rank before this one takes the same examples.
    package var isFirstReplica: Bool { groups.tensor.index == 0 && groups.pipeline.index == 0 }
    /// What the run was set up with.
    package var options: TrainingOptions { record.options }
    /// The constants of the optimizer. The kind cannot be changed.
    package var optimizer: OptimizerConfiguration { record.optimizer }
    /// The learning rates; may be replaced between steps, on all ranks alike.
    package var schedule: LearningRateSchedule {
        get { record.schedule }
        set { record.schedule = newValue }
    }
    /// How many steps have been taken.
    public var stepCount: Int { record.stepCount }
    /// The loss of each step since the trainer was made; after a restore preceded by the last losses of the stored run.
    public var lossHistory: [Double] { record.lossHistory }
    /// Where the order of the examples has come to; it does not depend on the number of ranks.
    package var loader: DataLoader { record.loader }

    /// A collective call: all ranks of `communicator`, which are the mesh's in its order, make their trainer at once.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a model that cannot be, does not fit the text, or cannot be
    ///   divided like this; what the communicator throws.
    public init(
        transformer configuration: TransformerConfiguration, text: TextDataset, optimizer: OptimizerConfiguration,
        schedule: LearningRateSchedule, options: TrainingOptions = TrainingOptions(),
        parallel: ParallelConfiguration, communicator: any Communicator
    ) throws {
        try configuration.validate(for: text)
        let stages = try parallel.stages(of: configuration)
        guard !options.swapsEnds else {
            throw CairnError(
                .unsupported, "blocks go in another order on one rank only",
                .init(advice: "train on one rank, or without the swapped order"))
        }
        record = try TrainingRecord(
            Transformer(configuration), text, tokenizer: text.tokenizer, optimizer: optimizer, schedule: schedule,
            options: options)
        plan = try PlacementPlan(
            configuration, stages: stages, optimizer: optimizer.kind, precision: options.precision,
            hasAverage: options.average != nil, parallel)
        let groups = try RankGroups(parallel.mesh, communicator)
        let part = TransformerPart(
            of: configuration, layers: stages[groups.pipeline.index], share: groups.tensor.index,
            shareCount: groups.tensor.count, expertShare: groups.experts.index,
            expertShareCount: groups.experts.count)
        let network = Transformer(configuration, part: part)
        let workPool = BufferPool(idleLimit: 1 << 30)
        let arena = Arena(pool: workPool)
        let plan = self.plan
        indices = try network.parameters.map { parameter throws(CairnError) in
            guard let index = plan.parameters.firstIndex(where: { $0.specification.name == parameter.name }) else {
                throw CairnError(
                    .mismatch, "a part has a parameter that the whole lacks", .init(tensor: parameter.name))
            }
            return index
        }
        self.network = network
        self.groups = groups
        self.parallel = parallel
        source = text
        memory = GradientMemory(
            zip(network.parameters, indices).map { ($0, plan.parameters[$1].stateOwner) }, dataCount: groups.data.count,
            arena)
        pool = BufferPool(idleLimit: 16 * memory.base.elements.count * MemoryLayout<Float>.stride + 1 << 24)
        expanded = ExpandedWeights(network.parameters, options.precision, arena)
        stage = PipelineStage(
            network, groups, parallel,
            capacity: TransformerPart.balanced(options.batchSize, part: 0, of: groups.share.count).count,
            pool: workPool)
        matrices = try indices.map { index throws(CairnError) in
            let parameter = plan.parameters[index]
            guard case .muon(let blocks) = parameter.rule, groups.tensor.count > 1,
                parameter.specification.sharding != nil
            else { return nil }
            return try ShardedMatrix(parameter, blocks: blocks, groups.tensor)
        }
        try initializeWeights()
        try resetOptimizer()
    }

    /// Takes this rank's parts of the weights that a single rank would start from.
    private func initializeWeights() throws {
        var own: [Int: Tensor] = [:]
        for (index, parameter) in plan.parameters.enumerated() {
            let specification = parameter.specification
            let count = specification.shape.elementCount
            guard indices.contains(index) else {
                specification.initialization.skip(count, &record.random)
                continue
            }
            let values = specification.initialization.values(count, &record.random)
            let whole = try Tensor(values, specification.shape)
            own[index] = try ShardedShape(parameter.layout, shape: specification.shape)
                .part(ofRank: groups.world.rank, of: whole, pool: pool)?
                .converted(to: options.precision.scalarType, pool: pool)
        }
        weights = try zip(indices, network.parameters).map { index, parameter in
            guard let tensor = own[index], tensor.shape == parameter.shape else {
                throw CairnError(
                    .mismatch, "a layout gives a rank another part than its network has",
                    .init(
                        tensor: parameter.name, rank: groups.world.rank, expected: "\(parameter.shape)",
                        found: own[index].map { "\($0.shape)" } ?? "nothing"))
            }
            return tensor
        }
        expanded.update(weights)
    }

    /// Starts the optimizer afresh from the weights as they are.
    func resetOptimizer() throws {
        updates = try indices.indices.map { index in
            let parameter = plan.parameters[indices[index]]
            guard let part = try keptPart(index) else { return nil }
            var update = try ParameterUpdate(
                parameter.specification, weight: part, optimizer, hasAverage: options.average != nil, pool: pool)
            // It is not part of the optimizer's state.
            if let average = updates.isEmpty ? nil : updates[index]?.average { update.average = average }
            return update
        }
        record.optimizerStep = 0
    }

    /// The stretch of this rank's local parameter whose state it keeps, if it keeps any.
    func keptRange(_ index: Int) -> Range<Int>? {
        let count = network.parameters[index].shape.elementCount
        switch plan.parameters[indices[index]].stateOwner {
        case .all: return 0..<count
        case .one(let owner): return owner == groups.data.index ? 0..<count : nil
        case .stretch(let flattening, _):
            guard case .equal(let size) = flattening.partition else { return 0..<count }
            let start = groups.data.index * size - flattening.start
            return min(count, max(0, start))..<min(count, max(0, start + size))
        }
    }

    /// That stretch of the weight: of one dimension where it is part of a flat buffer.
    private func keptPart(_ index: Int) throws -> Tensor? {
        guard let range = keptRange(index) else { return nil }
        guard case .stretch = plan.parameters[indices[index]].stateOwner else { return weights[index] }
        let flat = try weights[index].reshaped([weights[index].shape.elementCount])
        return try flat.copy(of: Region(offsets: [range.lowerBound], shape: [range.count]), pool: pool)
    }

    /// Takes one step: a batch forward and backward, the gradient clipped, the parameters updated. A collective call.
    ///
    /// - Returns: The same on every rank.
    /// - Throws: What the communicator throws; the state is then to be restored.
    @discardableResult
    public func step() throws -> Trainer.StepReport {
        let targets = options.batchSize * network.targetsPerExample
        let share = TransformerPart.balanced(options.batchSize, part: groups.share.index, of: groups.share.count)
        lastExamples = Array(record.loader.next(options.batchSize)[share])
        batch.removeAll()
        for index in lastExamples { source.append(index, of: .training, to: &batch) }
        memory.clear()
        let result = try expanded.withPointers(weights) { pointers in
            try stage.run(batch, weights: pointers, gradients: memory.pointers, scale: 1 / Float(targets))
        }
        try sumTiedGradient()
        try memory.reduce(over: groups)
        var sums = [squares(), 0, 0]
        if groups.tensor.index == 0 { (sums[1], sums[2]) = (result.lossSum, result.balanceSum) }
        try groups.world.allReduceSum(&sums)
        let norm = sums[0].squareRoot()
        try update(record.update(gradientNorm: norm))
        return record.finishStep(
            loss: sums[1] / Double(targets), gradientNorm: norm,
            expertBalance: network.configuration.expertBalance(sums[2], targets: targets))
    }

    /// Takes `count` steps, calling `report` after each.
    public func train(steps count: Int, _ report: (Trainer.StepReport) throws -> Void = { _ in }) throws {
        for _ in 0..<count { try report(try step()) }
    }

    /// The mean loss and the accuracy over the first `limit` examples of a split, all by default. A collective call;
    /// changes nothing but buffers.
    public func evaluate(_ split: Split = .validation, limit: Int = .max) throws -> Evaluation {
        try evaluate(split, 0..<min(max(0, limit), source.count(split)))
    }

    /// The mean loss and the accuracy over a range of examples. A collective call.
    func evaluate(_ split: Split, _ range: Range<Int>) throws -> Evaluation {
        var sums = [0.0, 0.0]
        for start in stride(from: range.lowerBound, to: range.upperBound, by: options.batchSize) {
            let examples = min(options.batchSize, range.upperBound - start)
            let share = TransformerPart.balanced(examples, part: groups.share.index, of: groups.share.count)
            batch.removeAll()
            for index in share { source.append(start + index, of: split, to: &batch) }
            let result = try expanded.withPointers(weights) { pointers in
                try stage.run(batch, weights: pointers, gradients: nil, scale: 0)
            }
            guard groups.tensor.index == 0 else { continue }
            sums[0] += result.lossSum
            sums[1] += Double(result.correctCount)
        }
        try groups.world.allReduceSum(&sums)
        let targets = Double(max(1, range.count * network.targetsPerExample))
        return Evaluation(loss: sums[0] / targets, accuracy: sums[1] / targets)
    }

    /// This rank's parts of the gradient of the last step, before clipping. Without ZeRO: with it, new weights are in
    /// their place.
    package func gradients() throws -> [String: Tensor] {
        var gradients: [String: Tensor] = [:]
        for (parameter, offset) in zip(network.parameters, memory.offsets) {
            let values = UnsafeBufferPointer(start: memory.address(offset), count: parameter.shape.elementCount)
            gradients[parameter.name] = try Tensor(Array(values), parameter.shape)
        }
        return gradients
    }

    /// Adds up what the first stage learnt of the tied matrix as embedding and the last one as head.
    private func sumTiedGradient() throws(CairnError) {
        guard groups.ends.size > 1, network.configuration.tiedEmbeddings, let embedding = network.embedding
        else { return }
        try groups.ends.allReduceSum(
            UnsafeMutableBufferPointer(
                start: memory.address(memory.offsets[embedding]),
                count: network.parameters[embedding].shape.elementCount))
    }

    /// The sum of the squares of those elements of the whole gradient that this rank counts: each is counted once.
    private func squares() -> Double {
        var sum = 0.0
        for (index, parameter) in network.parameters.enumerated() {
            // The first replica counts.
            guard parameter.sharding != nil || groups.tensor.index == 0,
                parameter.expert != nil || groups.experts.index == 0,
                !(index == network.embedding && groups.pipeline.index > 0),
                plan.parameters[indices[index]].stateOwner != .all || groups.data.index == 0,
                let range = keptRange(index)
            else { continue }
            sum += cairn_squares(range.count, memory.address(memory.offsets[index] + range.lowerBound))
        }
        return sum
    }

    private func update(_ step: ParameterUpdate.Step) throws {
        for section in memory.sections {
            if section.counts == nil {
                for index in section.parameters { try update(step, index, &weights[index], first: 0) }
            } else {
                try updateShared(step, section)
            }
        }
        expanded.update(weights)
    }

    /// Updates what this rank keeps the state of and exchanges the new weights with the others.
    private func updateShared(_ step: ParameterUpdate.Step, _ section: GradientMemory.Section) throws {
        let width = options.precision == .float32 ? MemoryLayout<Float>.stride : MemoryLayout<BFloat16>.stride
        for index in section.parameters {
            guard !isFrozen(index), let range = keptRange(index), var part = try keptPart(index) else { continue }
            try update(step, index, &part, first: range.lowerBound)
            let target = memory.weightAddress(of: index, in: section, first: range.lowerBound, width: width)
            part.bytes.withUnsafeBytes { bytes in
                if let source = bytes.baseAddress { target.copyMemory(from: source, byteCount: bytes.count) }
            }
        }
        try memory.gatherWeights(of: section, width: width, over: groups.data)
        for index in section.parameters where !isFrozen(index) {
            let source = memory.weightAddress(of: index, in: section, first: 0, width: width)
            weights[index].overwrite(pool: pool) { bytes in
                bytes.withUnsafeMutableBytes { buffer in
                    buffer.copyMemory(from: UnsafeRawBufferPointer(start: source, count: buffer.count))
                }
            }
        }
    }

    private func isFrozen(_ index: Int) -> Bool { options.isFrozen(network.parameters[index]) }

    /// Updates a weight, or the stretch of it from element `first` on.
    private func update(_ step: ParameterUpdate.Step, _ index: Int, _ weight: inout Tensor, first: Int) throws {
        guard !isFrozen(index) else { return }
        let gradient = UnsafePointer(memory.address(memory.offsets[index] + first))
        if let matrix = matrices[index] {
            try updates[index]?.apply(step, gradient: gradient, to: &weight, of: matrix, pool: pool)
        } else {
            try updates[index]?.apply(step, gradient: gradient, to: &weight, pool: pool)
        }
    }
}
