import ArgumentParser
import Cairn
import CairnTrain

/// The validation losses of checkpoints.
struct EvaluateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate", abstract: "Prints the validation loss of the models of checkpoints.",
        discussion: """
            EXAMPLE
              cairn-train evaluate runs/kjv runs/average.safetensors --text Fixtures/data/kjv.txt
            """)

    @Argument(help: "Runs' folders, RUN@STEP, or safetensors files that runs were converted or averaged to.")
    var checkpoints: [String]
    @Option(help: "The text of the runs.")
    var text: String
    @Option(help: "How many sequences of the validation text; by default all.")
    var limit: Int?

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1 (got \(limit))") }
    }

    func run() throws {
        let bytes = try readFile(text)
        let width = checkpoints.map(\.count).max() ?? 0
        for checkpoint in checkpoints {
            let trainer = try StoredModel.trainer(StoredModel.open(checkpoint), text: bytes)
            let evaluation = trainer.evaluate(limit: limit ?? .max)
            say(
                "\(padded(checkpoint, width))  loss \(decimal(evaluation.loss))  "
                    + "accuracy \(decimal(evaluation.accuracy))")
        }
    }
}
