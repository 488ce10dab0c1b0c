import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnMerge

/// `cairn average`
struct AverageCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "average", abstract: "Average checkpoints of a run, or any checkpoints with the same tensors.",
        discussion: """
            With one RUN its checkpoints are averaged, all or as --last, --every, --from and --until choose; --best takes \
            those with the best metric. With several sources these are averaged, by --weights if they are not all the same.

            Of training states the model's tensors are averaged, where names tell them from an optimizer's moments and the \
            rest; --all takes everything, --include chooses. Floating-point numbers are averaged, others have to agree. Sums are of single precision or more, and rounded once. Values are those of the last \
            checkpoint of a run, or of the first source. Memory stays small, nothing is replaced without --force, and an \
            interrupted or failed average leaves nothing that looks like a checkpoint. The result's lineage names every \
            member and its weight.

            Examples:
              cairn average runs/kjv --last 5 --every 100 -o lawa.safetensors
              cairn average runs/kjv --best 3 --metric loss -o runs/soup --to cairn
              cairn average runs/kjv --ema 0.9 -o ema.safetensors
              cairn average a.safetensors b.safetensors --weights 0.7,0.3 -o ab.safetensors
            """)

    @Argument(help: ArgumentHelp("A run, or several checkpoints of any format.", valueName: "source"))
    var sources: [String]

    @Option(help: ArgumentHelp("The last K checkpoints of the run.", valueName: "k"))
    var last: Int?

    @Option(help: ArgumentHelp("Checkpoints that are so many steps apart, counted back from the last.", valueName: "steps"))
    var every: Int?

    @Option(help: ArgumentHelp("No checkpoint before this step.", valueName: "step"))
    var from: Int?

    @Option(help: ArgumentHelp("No checkpoint behind this step.", valueName: "step"))
    var until: Int?

    @Option(help: ArgumentHelp("The K checkpoints with the best --metric.", valueName: "k"))
    var best: Int?

    @Option(help: "The metric for --best. Less is better, unless --higher.")
    var metric: String?

    @Flag(help: "More of the metric is better.")
    var higher = false

    @Option(help: ArgumentHelp("Weights of an exponential moving average over the chosen checkpoints.", valueName: "decay"))
    var ema: Double?

    @Option(help: ArgumentHelp("A weight for each source, divided by their sum.", valueName: "w,w,…"))
    var weights: NumberListArgument?

    @OptionGroup var training: TrainingOptions

    @OptionGroup var result: MergeOutput

    func validate() throws {
        if (best == nil) != (metric == nil) { throw ValidationError("--best and --metric go together") }
        if higher, best == nil { throw ValidationError("--higher goes with --best") }
        if best != nil, last != nil || every != nil || ema != nil {
            throw ValidationError("--best goes without --last, --every and --ema")
        }
        if let weights {
            if ema != nil { throw ValidationError("--weights goes without --ema") }
            if sources.count > 1, weights.numbers.count != sources.count {
                throw ValidationError("--weights needs a weight for each source")
            }
        }
        if sources.count > 1, last != nil || every != nil || from != nil || until != nil || best != nil || ema != nil {
            throw ValidationError("--last, --every, --from, --until, --best and --ema are for one run")
        }
    }

    func run() throws {
        if sources.count > 1 { return try averageSources() }
        let (store, path) = try StoreOpening.open(sources[0])
        let average = StoredAverage(
            last: last, spacing: every, start: from, end: until,
            weighting: ema.map { .exponential(decay: $0) } ?? .uniform)
        let steps =
            try best == nil
            ? average.steps(of: StoreOpening.usableSteps(of: store, path: path), run: path) : bestSteps(store, path)
        var members: [MergeSource] = []
        for step in steps { members.append(try result.open("\(path)@\(step)", taking: training.parts)) }
        if let weights, weights.numbers.count != steps.count {
            throw CairnError(
                .invalidArgument, "there are not as many weights as checkpoints",
                .init(file: path, expected: "\(steps.count)", found: "\(weights.numbers.count)"))
        }
        let merged = try MergedCheckpoint(
            stored: members.map(\.input), weights: weights?.numbers ?? average.weights(count: steps.count), average,
            options: result.mergeOptions)
        // The newest gives the step, as it gives the values.
        try result.write(merged, of: members.reversed(), schema: "cairn-average/1")
    }

    private func averageSources() throws {
        var members: [MergeSource] = []
        for source in sources { members.append(try result.open(source, taking: training.parts)) }
        let merged = try MergedCheckpoint(
            averaging: members.map(\.input), weights: weights?.numbers, options: result.mergeOptions)
        try result.write(merged, of: members, schema: "cairn-average/1")
    }

    private func bestSteps(_ store: CheckpointStore, _ path: String) throws -> [Int] {
        let ranked = try StoredSoup(metric: metric ?? "", higherIsBetter: higher, start: from, end: until)
            .ranked(store)
        guard let best, best > 0, ranked.count >= best else {
            throw CairnError(
                .notFound, "the run has not as many checkpoints with the metric",
                .init(file: path, expected: "\(best ?? 0) with \(metric ?? "")", found: "\(ranked.count)"))
        }
        return ranked.prefix(best).map(\.step).sorted()
    }
}

/// Numbers between commas.
struct NumberListArgument: ExpressibleByArgument {
    let numbers: [Double]

    init?(argument: String) {
        var numbers: [Double] = []
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            guard let number = Double(part), number.isFinite else { return nil }
            numbers.append(number)
        }
        self.numbers = numbers
    }
}
