public import CairnBase
public import CairnTensor

/// Everything that a training run's next steps depend on.
public struct TrainerState: Sendable {
    /// Parameters (`model.…`) and what the optimizer keeps of each (`optimizer.<slot>.model.…`), by name.
    public var tensors: [(name: String, tensor: Tensor)]
    /// Names that stand for a tensor of another name.
    public var ties: [(name: String, target: String)]
    /// Counters, constants, positions: `trainer`, `model`, `data`, `loader`, `random`, `schedule`, `optimizer` and, of a
    /// language model, `tokenizer`.
    public var values: [String: Value]
}

extension Trainer {
    /// How many losses are stored with the state.
    static let storedLossCount = 256

    /// The parameters, in the model's order.
    public var parameters: [(name: String, tensor: Tensor)] {
        zip(network.parameters, weights).map { (name: $0.name, tensor: $1) }
    }

    /// The whole state as of now. Copies no tensor; later steps leave it as it is.
    public func state() -> TrainerState {
        TrainerState(
            tensors: parameters + updates.flatMap(\.tensors), ties: network.ties, values: values)
    }

    private var values: [String: Value] {
        var values: [String: Value] = [
            "trainer": trainerValue(
                step: stepCount, losses: Array(lossHistory.suffix(Self.storedLossCount))),
            "model": network.value, "data": source.identity, "loader": loader.value, "random": random.value,
            "schedule": schedule.value, "optimizer": optimizer.value(step: optimizerStep),
        ]
        if let tokenizer { values["tokenizer"] = tokenizer.value }
        return values
    }

    private func trainerValue(step: Int, losses: [Double]) -> Value {
        .dictionary([
            "step": .integer(Int64(step)), "batch_size": .integer(Int64(options.batchSize)),
            "seed": .unsigned(options.seed), "gradient_parts": .integer(Int64(options.gradientParts)),
            "maximum_gradient_norm": options.maximumGradientNorm.map { .double($0) } ?? .null,
            "precision": .string(options.precision.rawValue), "recent_losses": .list(losses.map { .double($0) }),
        ])
    }

    /// Goes on where the run stood whose state this is. Model, data and options must be those of that run; schedule and
    /// optimizer constants are taken over.
    ///
    /// Nothing changes unless everything fits.
    ///
    /// - Parameters:
    ///   - tensors: those of ``TrainerState``, with or without the tied names.
    ///   - values: those of ``TrainerState``.
    ///   - withoutOptimizer: leaves the optimizer's part aside, whether it is there or not, and starts the optimizer
    ///     afresh; everything else is restored.
    /// - Throws: ``CairnError/Code/incomplete`` for what is missing, ``CairnError/Code/mismatch`` for what is too much or
    ///   of another type, shape or value; the error names it.
    public func restore(
        tensors: [String: Tensor], values: [String: Value], withoutOptimizer: Bool = false
    ) throws(CairnError) {
        try checkNames(tensors, values, withoutOptimizer: withoutOptimizer)
        let trainer = try ValueFields("trainer", values["trainer"])
        let step = try trainer.integer("step")
        let losses = try trainer.doubles("recent_losses")
        try expect("trainer", values, trainerValue(step: step, losses: losses))
        try expect("model", values, network.value)
        try expect("data", values, source.identity)
        if let tokenizer { try expect("tokenizer", values, tokenizer.value) }
        let newLoader = try DataLoader(ValueFields("loader", values["loader"]))
        guard newLoader.exampleCount == loader.exampleCount else {
            throw ValueFields.wrong(
                "loader.example_count", "\(loader.exampleCount)", .integer(Int64(newLoader.exampleCount)))
        }
        let newRandom = try PhiloxGenerator(ValueFields("random", values["random"]))
        let newSchedule = try LearningRateSchedule(ValueFields("schedule", values["schedule"]))

        var newWeights: [Tensor] = []
        for (name, old) in parameters { newWeights.append(try Self.take(name, like: old, from: tensors)) }
        for (name, target) in network.ties {
            guard let tied = tensors[name], let kept = tensors[target], tied != kept else { continue }
            throw CairnError(.mismatch, "a tied tensor differs from \"\(target)\"", .init(tensor: name))
        }
        var newUpdates = updates
        var newOptimizer = optimizer
        var newOptimizerStep = 0
        if !withoutOptimizer {
            let fields = try ValueFields("optimizer", values["optimizer"])
            newOptimizer = try OptimizerConfiguration(fields, expected: optimizer)
            newOptimizerStep = try fields.integer("step")
            for index in newUpdates.indices {
                try newUpdates[index].replace { (name, old) throws(CairnError) in
                    try Self.take(name, like: old, from: tensors)
                }
            }
        }

        weights = newWeights
        updates = newUpdates
        optimizer = newOptimizer
        optimizerStep = newOptimizerStep
        stepCount = step
        lossHistory = losses
        loader = newLoader
        random = newRandom
        schedule = newSchedule
        expandWeights()
        if withoutOptimizer {
            do {
                try resetOptimizer()
            } catch {
                throw error as? CairnError
                    ?? CairnError(.invalidArgument, "the optimizer cannot be started", cause: error)
            }
        }
    }

    /// Replaces the parameters and nothing else: to evaluate an average, or to start from another model.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` as ``restore(tensors:values:withoutOptimizer:)``
    ///   does.
    public func replaceParameters(_ tensors: [String: Tensor]) throws(CairnError) {
        var new: [Tensor] = []
        for (name, old) in parameters { new.append(try Self.take(name, like: old, from: tensors)) }
        weights = new
        expandWeights()
    }

    private func checkNames(
        _ tensors: [String: Tensor], _ values: [String: Value], withoutOptimizer: Bool
    ) throws(CairnError) {
        var known = Set(parameters.map(\.name)).union(network.ties.map(\.name))
        for update in updates { known.formUnion(update.tensors.map(\.name)) }
        for name in tensors.keys.sorted() where !known.contains(name) {
            if withoutOptimizer, name.hasPrefix("optimizer.") { continue }
            throw CairnError(.mismatch, "the stored state has a tensor that nothing reads", .init(tensor: name))
        }
        var names: Set<String> = ["trainer", "model", "data", "loader", "random", "schedule", "optimizer"]
        if tokenizer != nil { names.insert("tokenizer") }
        for name in values.keys.sorted() where !names.contains(name) {
            throw CairnError(.mismatch, "the stored state has a value \"\(name)\" that nothing reads")
        }
        for name in names.sorted() where values[name] == nil && !(withoutOptimizer && name == "optimizer") {
            throw CairnError(.incomplete, "the stored state lacks the value \"\(name)\"")
        }
    }

    /// Throws, naming the first field that differs, unless the stored dictionary is this one.
    private func expect(_ name: String, _ values: [String: Value], _ expected: Value) throws(CairnError) {
        let fields = try ValueFields(name, values[name])
        guard case .dictionary(let wanted) = expected else { return }
        for (key, value) in wanted.sorted(by: { $0.key < $1.key }) { try fields.expect(key, value) }
        try fields.allowOnly(Set(wanted.keys))
    }

    private static func take(
        _ name: String, like old: Tensor, from tensors: [String: Tensor]
    ) throws(CairnError) -> Tensor {
        guard let tensor = tensors[name] else {
            throw CairnError(.incomplete, "the stored state lacks a tensor", .init(tensor: name))
        }
        guard tensor.scalarType == old.scalarType, tensor.shape == old.shape else {
            throw CairnError(
                .mismatch, "a stored tensor has another type or shape",
                .init(
                    tensor: name, expected: "\(old.scalarType)\(old.shape)",
                    found: "\(tensor.scalarType)\(tensor.shape)"))
        }
        return tensor
    }
}
