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
