import ArgumentParser
import Cairn
import CairnCheckpoint
import CairnCommunication
import CairnLayout
import CairnTrain

/// What is trained: the options that every run of an experiment shares.
struct RunOptions: ParsableArguments {
    enum Model: String, ExpressibleByArgument, CaseIterable { case transformer, mlp }
    enum Optimizer: String, ExpressibleByArgument, CaseIterable { case adamw, sgd, muon }
    enum Schedule: String, ExpressibleByArgument, CaseIterable { case cosine, wsd, constant }

    @Option(help: "transformer (on --text) or mlp (on --digits).")
    var model = Model.transformer
    @Option(help: "The text that the transformer learns.")
    var text: String?
    @Option(help: "The handwritten digits that the MLP learns: lines of 64 pixels and a label.")
    var digits: String?
    @Option(help: "How many steps the run has in all.")
    var steps = 300
    @Option(help: "Transformer blocks.")
    var layers = 4
    @Option(help: "Attention heads.")
    var heads = 4
    @Option(help: "Width of the model, or of the MLP's hidden layers.")
    var width = 128
    @Option(help: "Experts in place of the feed-forward part of some layers; 0 for none.")
    var experts = 0
    @Option(help: "How many of them each token goes to.")
    var expertsPerToken = 2
    @Option(help: "Every how many layers there are experts.")
    var expertsEvery = 2
    @Option(help: "The width inside each expert; by default that inside the feed-forward part, four times --width.")
    var expertWidth: Int?
    @Option(help: "How much an uneven load of the experts adds to the loss.")
    var expertBalance = 0.01
    @Option(help: "What the sum over a token's experts is multiplied by: what an upcycled model of parts says.")
    var expertScale = 1.0
    @Option(help: "Tokens in a sequence.")
    var context = 128
    @Option(help: "Sequences or digits in a step.")
    var batch = 16
    @Option(help: "Tokens of a byte-pair encoding learnt from the text; 0 for characters.")
    var vocabulary = 0
    @Option(help: "adamw, sgd or muon.")
    var optimizer = Optimizer.adamw
    @Option(help: "cosine, wsd (warm-up, stable, decay) or constant.")
    var schedule = Schedule.cosine
    @Option(help: "The largest learning rate.")
    var rate = 1e-3
    @Option(help: "Determines the first weights and the order of the data.")
    var seed: UInt64 = 1
    @Option(help: "Keep a moving average of the weights with this decay, such as 0.999.")
    var ema: Double?
    @Flag(
        help: "Let half of each batch pass the first two blocks, and the last two, in the other order (CheckFree+; on one rank).")
    var outOfOrder = false
    @Option(
        help: ArgumentHelp(
            "Do not train the parameters whose names match, such as 'model.layers.{0..1}.*'; may be given several times.",
            valueName: "pattern"))
    var freeze: [String] = []
    @Flag(help: "Keep the weights in BF16, with 32-bit master copies in the optimizer.")
    var bf16 = false

    /// A trainer at step 0.
    func makeTrainer() throws -> Trainer {
        switch model {
        case .transformer:
            let text = try makeText()
            return try Trainer(
                transformer: transformer(for: text), text: text, optimizer: rule, schedule: rateSchedule,
                options: trainingOptions)
        case .mlp:
            guard let digits else { throw ValidationError("an MLP needs --digits FILE") }
            let dataset = try DigitsDataset(csv: readFile(digits))
            let configuration = PerceptronConfiguration(hidden: [width, width])
            return try Trainer(
                classifier: configuration, digits: dataset, optimizer: rule, schedule: rateSchedule,
                options: trainingOptions)
        }
    }

    func validate() throws {
        guard (0...1 << 40).contains(steps) else { throw ValidationError("--steps must be from 0 to \(1 << 40) (got \(steps))") }
        for pattern in freeze where (try? GlobPattern(pattern)) == nil {
            throw ValidationError("--freeze \(pattern) is no pattern of names")
        }
        guard experts >= 0 else { throw ValidationError("--experts must not be negative (got \(experts))") }
        guard rate.isFinite, rate >= 0 else { throw ValidationError("--rate must be a number from 0 on (got \(rate))") }
    }

    /// A rank's part of a trainer at step 0.
    func makeTrainer(
        _ text: TextDataset, _ parallel: ParallelConfiguration, _ communicator: any Communicator
    ) throws -> ParallelTrainer {
        try ParallelTrainer(
            transformer: transformer(for: text), text: text, optimizer: rule, schedule: rateSchedule,
            options: trainingOptions, parallel: parallel, communicator: communicator)
    }

    /// What a transformer learns.
    func makeText() throws -> TextDataset {
        guard let text else { throw ValidationError("a transformer needs --text FILE") }
        let bytes = try readFile(text)
        let tokenizer: Tokenizer? =
            vocabulary > 0
            ? .bytePairs(BytePairEncoding(trainedOn: bytes, vocabularySize: vocabulary)) : nil
        return try TextDataset(text: bytes, tokenizer: tokenizer, context: context)
    }

    private func transformer(for text: TextDataset) -> TransformerConfiguration {
        var configuration = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: context, layers: layers, heads: heads,
            width: width)
        if experts > 0 {
            let inner = configuration.feedForwardMultiple.multipliedReportingOverflow(by: width)
            configuration.experts = ExpertConfiguration(
                count: experts, chosen: expertsPerToken,
                width: expertWidth ?? (inner.overflow ? .max : inner.partialValue),
                every: expertsEvery, balance: expertBalance, scale: expertScale)
        }
        return configuration
    }

    private var trainingOptions: TrainingOptions {
        var options = TrainingOptions()
        options.batchSize = batch
        options.frozen = freeze.compactMap { try? GlobPattern($0) }
        options.seed = seed
        options.average = ema.map { WeightAverage(decay: $0) }
        options.swapsEnds = outOfOrder
        options.precision = bf16 ? .bfloat16WithMaster : .float32
        return options
    }

    private var rule: OptimizerConfiguration {
        switch optimizer {
        case .adamw: .adamW()
        case .sgd: .sgd()
        case .muon: .muon()
        }
    }

    private var rateSchedule: LearningRateSchedule {
        let warmup = max(1, steps / 20)
        let shape: LearningRateSchedule.Shape =
            switch schedule {
            case .cosine: .cosine(steps: steps)
            case .wsd: .warmupStableDecay(stableUntil: steps * 4 / 5, decaySteps: max(1, steps / 5), decay: .linear)
            case .constant: .constant
            }
        return LearningRateSchedule(peak: rate, warmupSteps: warmup, shape: shape)
    }
}

extension RunOptions {
    /// The options as they would be typed.
    var arguments: [String] {
        var words = ["--model", model.rawValue, "--steps", "\(steps)", "--layers", "\(layers)", "--heads", "\(heads)"]
        words += ["--width", "\(width)", "--context", "\(context)", "--batch", "\(batch)"]
        words += ["--vocabulary", "\(vocabulary)", "--optimizer", optimizer.rawValue]
        words += ["--schedule", schedule.rawValue, "--rate", "\(rate)", "--seed", "\(seed)"]
        if experts > 0 {
            words += ["--experts", "\(experts)", "--experts-per-token", "\(expertsPerToken)"]
            words += ["--experts-every", "\(expertsEvery)", "--expert-balance", "\(expertBalance)"]
            words += ["--expert-scale", "\(expertScale)"]
            if let expertWidth { words += ["--expert-width", "\(expertWidth)"] }
        }
        if let ema { words += ["--ema", "\(ema)"] }
        if let text { words += ["--text", text] }
        if let digits { words += ["--digits", digits] }
        for pattern in freeze { words += ["--freeze", pattern] }
        if bf16 { words.append("--bf16") }
        if outOfOrder { words.append("--out-of-order") }
        return words
    }
}

/// How a run is sharded over ranks.
struct ParallelOptions: ParsableArguments {
    @Option(help: "How many ranks train together.")
    var ranks: Int?
    @Option(
        help: """
            What they divide: dp the batch, ep the batch and the experts, tp the matrices, pp the layers, as in dp=2,tp=2. \
            By default dp.
            """)
    var mesh: String?
    @Flag(help: "Share the optimizer's state over dp (ZeRO stage 1).")
    var zero = false
    @Option(help: "Into how many parts a rank's examples go through the pipeline.")
    var microBatches: Int?

    /// How many ranks the options ask for, if they say.
    func rankCount() throws -> Int? {
        guard let mesh else { return ranks }
        let count = try DeviceMesh(parsing: mesh).rankCount
        if let ranks, ranks != count { throw ValidationError("the mesh \(mesh) has \(count) ranks, not \(ranks)") }
        return count
    }

    func configuration(rankCount: Int) throws -> ParallelConfiguration {
        var configuration = ParallelConfiguration(
            mesh: try DeviceMesh(parsing: mesh ?? "dp=\(rankCount)"), zero: zero)
        configuration.microBatches = microBatches
        return configuration
    }

    /// The options as they would be typed.
    var arguments: [String] {
        var words: [String] = []
        if let ranks { words += ["--ranks", "\(ranks)"] }
        if let mesh { words += ["--mesh", mesh] }
        if zero { words.append("--zero") }
        if let microBatches { words += ["--micro-batches", "\(microBatches)"] }
        return words
    }
}

/// The bytes of a data file.
func readFile(_ path: String) throws -> [UInt8] {
    let place = try LocalStorage.locate(path)
    return try place.storage.readAll(place.key, limit: 1 << 30)
}
