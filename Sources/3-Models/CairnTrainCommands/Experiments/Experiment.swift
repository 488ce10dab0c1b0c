import ArgumentParser
import Cairn
import CairnTrain

/// A claim of a paper, tried in small.
protocol Experiment: SendableMetatype {
    /// What it is called on the command line.
    static var name: String { get }
    /// What it tries, in a sentence.
    static var summary: String { get }

    /// Trains, and says what came of it.
    static func run(_ setting: ExperimentSetting) throws -> ExperimentResult
}

/// An experiment by name.
struct ListedExperiment: Sendable {
    let name: String
    let summary: String
    let run: @Sendable (ExperimentSetting) throws -> ExperimentResult

    init<Kind: Experiment>(_: Kind.Type) {
        name = Kind.name
        summary = Kind.summary
        run = { try Kind.run($0) }
    }
}

/// All that there are.
enum ExperimentCatalogue {
    static let all: [ListedExperiment] = [
        ListedExperiment(ResumeExperiment.self), ListedExperiment(LatestWeightsExperiment.self),
        ListedExperiment(MovingAverageExperiment.self), ListedExperiment(UpcycleExperiment.self),
        ListedExperiment(SoupExperiment.self), ListedExperiment(CombinationExperiment.self),
        ListedExperiment(RecycleExperiment.self),
        ListedExperiment(DecayExperiment.self), ListedExperiment(MuonReshardExperiment.self),
        ListedExperiment(RebasinExperiment.self), ListedExperiment(InterpolationExperiment.self),
        ListedExperiment(StageLossExperiment.self),
    ]
}

/// What an experiment found.
struct ExperimentResult {
    /// A claim, whether it shows here, and the numbers that say so.
    struct Finding {
        var claim: String
        var holds: Bool
        var evidence: String
    }

    var columns: [String]
    var rows: [[String]] = []
    var findings: [Finding] = []
    var panels: [ChartPanel] = []
    var maps: [HeatMap] = []
    /// What the horizontal axis of the picture is.
    var axis = "step"
    /// The picture, where it is one of points.
    var scatter: ScatterChart?

    init(columns: [String]) { self.columns = columns }

    mutating func claim(_ claim: String, _ holds: Bool, _ evidence: String) {
        findings.append(Finding(claim: claim, holds: holds, evidence: evidence))
    }

    /// The table and the findings, for people.
    var text: String {
        let widths = columns.indices.map { column in
            ([columns[column]] + rows.map { $0[column] }).map(\.count).max() ?? 0
        }
        func line(_ cells: [String]) -> String {
            zip(cells, widths).enumerated().map { padded($1.0, $1.1, right: $0 > 0) }.joined(separator: "  ")
        }
        let table = [line(columns)] + rows.map(line)
        let claims = findings.map { ($0.holds ? "shows       " : "DOES NOT SHOW ") + "\($0.claim): \($0.evidence)" }
        return (table + [""] + claims).joined(separator: "\n")
    }

    /// The table as a page of documentation has it.
    var markdown: String {
        func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
        let table = [line(columns), "|" + String(repeating: " --- |", count: columns.count)] + rows.map(line)
        let claims = findings.map { "- \($0.holds ? "Shows" : "**Does not show**"): \($0.claim) (\($0.evidence))." }
        return (table + [""] + claims).joined(separator: "\n") + "\n"
    }
}

/// The same number of several runs that differ in the seed.
struct Sample {
    var values: [Double]

    init(_ values: [Double]) { self.values = values }

    var mean: Double { values.isEmpty ? .nan : values.reduce(0, +) / Double(values.count) }

    /// The standard deviation, of runs of which these are some.
    var spread: Double {
        guard values.count > 1 else { return 0 }
        let mean = mean
        return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)).squareRoot()
    }

    /// `1.2345 ± 0.0012`
    var text: String { "\(decimal(mean)) ± \(decimal(spread))" }

    static func - (left: Sample, right: Sample) -> Sample { Sample(zip(left.values, right.values).map { $0 - $1 }) }
}

/// Tries a paper's claim in small.
struct ExperimentCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "experiment",
        abstract: "Tries in small what papers claim of stored checkpoints: a table, a picture, and whether it shows.",
        discussion: ExperimentCatalogue.all.map { "  \(padded($0.name, 26)) \($0.summary)" }.joined(separator: "\n"))

    @Argument(help: "Which one.")
    var name: String
    @Option(help: "The text that transformers learn.")
    var text: String?
    @Option(help: "The handwritten digits that classifiers learn.")
    var digits: String?
    @Option(help: "Another text, for soups and recycling: trunks learn both.")
    var otherText: String?
    @Option(help: "A folder for the checkpoints, the picture and the table; what was left there before is replaced.")
    var out: String
    @Option(help: "How many seeds.")
    var seeds = 3
    @Option(help: "The steps of a run.")
    var steps = 600
    @Option(help: "How many validation sequences are evaluated.")
    var validation = 200
    @Option(help: "How many candidates a search for coefficients evaluates.")
    var evaluations = 400
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("The widths of classifiers that rebasin compares.", valueName: "width"))
    var widths = [32, 128, 512]

    func validate() throws {
        guard ExperimentCatalogue.all.contains(where: { $0.name == name }) else {
            let names = ExperimentCatalogue.all.map(\.name).joined(separator: ", ")
            throw ValidationError("there is no experiment \"\(name)\": it is one of \(names)")
        }
        guard (1...100).contains(seeds), (40...1 << 20).contains(steps), (2...1 << 20).contains(validation) else {
            throw ValidationError(
                "--seeds must be from 1 to 100, --steps from 40 to \(1 << 20), --validation from 2 to \(1 << 20)")
        }
        guard (20...1 << 20).contains(evaluations) else {
            throw ValidationError("--evaluations must be from 20 to \(1 << 20) (got \(evaluations))")
        }
        guard !widths.isEmpty, widths.allSatisfy({ (1...8192).contains($0) }) else {
            throw ValidationError("--widths must be from 1 to 8192 (got \(widths))")
        }
    }

    func run() throws {
        guard let experiment = ExperimentCatalogue.all.first(where: { $0.name == name }) else { return }
        let bytes = try text.map(readFile)
        let dataset = try bytes.map { try TextDataset(text: $0, context: 64) }
        let setting = ExperimentSetting(
            givenText: dataset, givenBytes: bytes, givenOtherBytes: try otherText.map(readFile),
            givenDigits: try digits.map { try DigitsDataset(csv: readFile($0)) }, folder: out,
            seeds: (1...UInt64(seeds)).map { $0 }, steps: steps,
            validationCount: min(validation, dataset?.count(.validation) ?? validation), evaluations: evaluations,
            widths: widths)
        let result = try experiment.run(setting)
        say(result.text)
        var chart = VectorChart(title: experiment.summary)
        chart.axis = result.axis
        let picture = result.scatter?.draw(title: experiment.summary) ?? chart.draw(result.panels, maps: result.maps)
        let storage = LocalStorage(root: out)
        try storage.publish(Array(picture.utf8), as: "\(name).svg")
        try storage.publish(Array(result.markdown.utf8), as: "\(name).md")
        say("\nThe picture is \(out)/\(name).svg, the table \(out)/\(name).md")
    }
}
