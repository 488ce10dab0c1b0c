import ArgumentParser
import Cairn
import CairnTrain

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
            throw ValidationError("--seeds must be from 1 to 100, --steps from 40 to \(1 << 20), --validation from 2 to \(1 << 20)")
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
