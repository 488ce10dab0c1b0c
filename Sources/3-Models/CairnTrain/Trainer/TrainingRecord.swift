internal import CairnBase
internal import CairnTensor

/// What a run's next steps depend on besides its tensors, and what tells the run from others: the same whether one rank
/// trains or many.
struct TrainingRecord: Sendable {
    /// How many losses are stored with the state.
    static let storedLossCount = 256

    /// What the run was set up with; a stored state must agree.
    let model: Value
    let data: Value
    let tokenizer: Tokenizer?
    let options: TrainingOptions

    var stepCount = 0
    var lossHistory: [Double] = []
    var loader: DataLoader
    var random: PhiloxGenerator
    var schedule: LearningRateSchedule
    var optimizer: OptimizerConfiguration
    /// The steps that the optimizer's state has seen.
    var optimizerStep = 0
    /// The parameters whose optimizer began anew since.
    var restarts: [String: OptimizerRestart] = [:]
    /// The steps that the average of the weights has seen.
    var averageCount = 0

    init(
        _ network: any Network, _ source: any ExampleSource, tokenizer: Tokenizer?,
        optimizer: OptimizerConfiguration, schedule: LearningRateSchedule, options: TrainingOptions
    ) throws(CairnError) {
        // As with a model's sizes, 2²⁴ keeps every product of them within 64 bits.
        guard (1...1 << 24).contains(options.batchSize), options.gradientParts > 0, source.count(.training) > 0 else {
            throw CairnError(
                .invalidArgument, "batch size, gradient parts and examples are all at least one",
                .init(
                    expected: "a batch of at most \(1 << 24)",
                    found: "\(options.batchSize), \(options.gradientParts) and \(source.count(.training))"))
        }
        try options.average?.validate()
        try options.checkFrozen(network.parameters)
        model = network.value
        data = source.identity
        self.tokenizer = tokenizer
        self.options = options
        self.schedule = schedule
        self.optimizer = optimizer
        loader = DataLoader(exampleCount: source.count(.training), seed: options.seed)
        random = PhiloxGenerator(key: options.seed, stream: 1)
    }

    /// How the optimizer updates in the step that is being taken, and the learning rate.
    ///
    /// - Parameter gradientNorm: of all parameters.
    func update(gradientNorm norm: Double) -> ParameterUpdate.Step {
        var scale: Float = 1
        if let limit = options.maximumGradientNorm, norm > limit { scale = Float(limit / (norm + 1e-6)) }
        return ParameterUpdate.Step(
            configuration: optimizer, learningRate: schedule.rate(step: stepCount), number: optimizerStep + 1,
            gradientScale: scale, averageDecay: options.average?.decay(after: averageCount), restarts: restarts)
    }

    /// Notes that a step has been taken.
    mutating func finishStep(loss: Double, gradientNorm: Double, expertBalance: Double?) -> Trainer.StepReport {
        let report = Trainer.StepReport(
            step: stepCount, loss: loss, learningRate: schedule.rate(step: stepCount), gradientNorm: gradientNorm,
            expertBalance: expertBalance)
        optimizerStep += 1
        stepCount += 1
        if options.average != nil { averageCount += 1 }
        lossHistory.append(loss)
        return report
    }

    /// All of it as values to store.
    var values: [String: Value] {
        var values: [String: Value] = [
            "trainer": trainerValue(step: stepCount, losses: Array(lossHistory.suffix(Self.storedLossCount))),
            "model": model, "data": data, "loader": loader.value, "random": random.value,
            "schedule": schedule.value, "optimizer": optimizer.value(step: optimizerStep, restarts: restarts),
        ]
        if let tokenizer { values["tokenizer"] = tokenizer.value }
        if let average = options.average { values["average"] = average.value(count: averageCount) }
        return values
    }

    private func trainerValue(step: Int, losses: [Double]) -> Value {
        var fields: [String: Value] = [
            "step": .integer(Int64(step)), "batch_size": .integer(Int64(options.batchSize)),
            "seed": .unsigned(options.seed), "gradient_parts": .integer(Int64(options.gradientParts)),
            "maximum_gradient_norm": options.maximumGradientNorm.map { .double($0) } ?? .null,
            "precision": .string(options.precision.rawValue), "recent_losses": .list(losses.map { .double($0) }),
        ]
        if options.swapsEnds { fields["swaps_ends"] = .bool(true) }
        return .dictionary(fields)
    }

    /// The record of the run that stored `values`, which must be of this model, data and options.
    ///
    /// - Parameter withoutOptimizer: keeps this record's optimizer, as before its first step.
    /// - Throws: ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch``, naming the value.
    func restored(from values: [String: Value], withoutOptimizer: Bool) throws(CairnError) -> TrainingRecord {
        try checkNames(values, withoutOptimizer: withoutOptimizer)
        var new = self
        let trainer = try ValueFields("trainer", values["trainer"])
        new.stepCount = try trainer.integer("step")
        new.lossHistory = try trainer.doubles("recent_losses")
        try expect("trainer", values, trainerValue(step: new.stepCount, losses: new.lossHistory))
        try expect("model", values, model)
        try expect("data", values, data)
        if let tokenizer { try expect("tokenizer", values, tokenizer.value) }
        new.loader = try DataLoader(ValueFields("loader", values["loader"]))
        guard new.loader.exampleCount == loader.exampleCount else {
            throw ValueFields.wrong(
                "loader.example_count", "\(loader.exampleCount)", .integer(Int64(new.loader.exampleCount)))
        }
        new.random = try PhiloxGenerator(ValueFields("random", values["random"]))
        new.schedule = try LearningRateSchedule(ValueFields("schedule", values["schedule"]))
        if let average = options.average {
            new.averageCount = try ValueFields("average", values["average"]).integer("count")
            try expect("average", values, average.value(count: new.averageCount))
        }
        new.optimizerStep = 0
        new.restarts = [:]
        if !withoutOptimizer {
            let fields = try ValueFields("optimizer", values["optimizer"])
            new.optimizer = try OptimizerConfiguration(fields, expected: optimizer)
            new.optimizerStep = try fields.integer("step")
            new.restarts = try OptimizerRestart.all(fields, upTo: new.optimizerStep)
        }
        return new
    }

    private func checkNames(_ values: [String: Value], withoutOptimizer: Bool) throws(CairnError) {
        var names: Set<String> = ["trainer", "model", "data", "loader", "random", "schedule", "optimizer"]
        if tokenizer != nil { names.insert("tokenizer") }
        if options.average != nil { names.insert("average") }
        // A fingerprint tells what the model computes; nothing depends on it.
        for name in values.keys.sorted() where !names.contains(name) && name != "fingerprint" {
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
}

/// A stored dictionary read strictly: each error names the field, what was expected and what is there.
struct ValueFields {
    let path: String
    private let fields: [String: Value]

    init(_ path: String, _ value: Value?) throws(CairnError) {
        guard let value else {
            throw CairnError(.incomplete, "the stored state lacks the value \"\(path)\"")
        }
        guard case .dictionary(let fields) = value else {
            throw Self.wrong(path, "a dictionary", value)
        }
        self.path = path
        self.fields = fields
    }

    /// Throws for a field that is not in `names`.
    func allowOnly(_ names: Set<String>) throws(CairnError) {
        for name in fields.keys.sorted() where !names.contains(name) {
            throw CairnError(.mismatch, "the stored state has a value \"\(path).\(name)\" that nothing reads")
        }
    }

    func fields(_ name: String) throws(CairnError) -> ValueFields {
        try ValueFields("\(path).\(name)", try field(name))
    }

    func field(_ name: String) throws(CairnError) -> Value {
        guard let value = fields[name] else {
            throw CairnError(.incomplete, "the stored state lacks the value \"\(path).\(name)\"")
        }
        return value
    }

    /// What is in it, sorted.
    var names: [String] { fields.keys.sorted() }

    func has(_ name: String) -> Bool { fields[name] != nil }

    /// One of the texts that the type knows.
    func choice<Choice: RawRepresentable<String> & CaseIterable>(_ name: String) throws(CairnError) -> Choice {
        let found = try string(name)
        guard let choice = Choice(rawValue: found) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw Self.wrong("\(path).\(name)", "one of \(known)", .string(found))
        }
        return choice
    }

    /// Throws unless the field has this very value.
    func expect(_ name: String, _ expected: Value) throws(CairnError) {
        let found = try field(name)
        guard found == expected else { throw Self.wrong("\(path).\(name)", "\(expected)", found) }
    }

    /// The largest count that is taken from a file: no run gets there, and sums and products by small factors stay far from
    /// overflow.
    static let largestCount = 1 << 48

    func integer(_ name: String, in range: ClosedRange<Int> = 0...largestCount) throws(CairnError) -> Int {
        let found = try field(name)
        let number: Int? =
            switch found {
            case .integer(let number): Int(exactly: number)
            case .unsigned(let number): Int(exactly: number)
            default: nil
            }
        guard let number, range.contains(number) else { throw Self.wrong("\(path).\(name)", "an integer", found) }
        return number
    }

    func unsigned(_ name: String) throws(CairnError) -> UInt64 {
        let found = try field(name)
        switch found {
        case .unsigned(let number): return number
        case .integer(let number) where number >= 0: return UInt64(number)
        default: throw Self.wrong("\(path).\(name)", "a number that is not negative", found)
        }
    }

    func double(_ name: String) throws(CairnError) -> Double {
        let found = try field(name)
        guard case .double(let number) = found else { throw Self.wrong("\(path).\(name)", "a number", found) }
        return number
    }

    func bool(_ name: String) throws(CairnError) -> Bool {
        let found = try field(name)
        guard case .bool(let truth) = found else { throw Self.wrong("\(path).\(name)", "true or false", found) }
        return truth
    }

    func string(_ name: String) throws(CairnError) -> String {
        let found = try field(name)
        guard case .string(let string) = found else { throw Self.wrong("\(path).\(name)", "a string", found) }
        return string
    }

    func list(_ name: String) throws(CairnError) -> [Value] {
        let found = try field(name)
        guard case .list(let list) = found else { throw Self.wrong("\(path).\(name)", "a list", found) }
        return list
    }

    func doubles(_ name: String) throws(CairnError) -> [Double] {
        var numbers: [Double] = []
        for value in try list(name) {
            guard case .double(let number) = value else { throw Self.wrong("\(path).\(name)", "numbers", value) }
            numbers.append(number)
        }
        return numbers
    }

    static func wrong(_ path: String, _ expected: String, _ found: Value) -> CairnError {
        CairnError(
            .mismatch, "the stored value \"\(path)\" does not fit", .init(expected: expected, found: "\(found)"))
    }
}
