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

/// Compares what models compute.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Tells whether a checkpoint computes what it did when it was saved, or what another one computes.",
        discussion: """
            A run with --fingerprint stores what its model makes of the first validation sequences. After a \
            conversion, a reshard, a merge or an upcycling this computes it again from the weights, and compares. With \
            --against it compares with another checkpoint's model instead, which needs nothing stored.

            Exits with 1 when a loss differs by more than the tolerance.

            EXAMPLES
              cairn-train check runs/kjv@400 --text Fixtures/data/kjv.txt
              cairn-train check model.safetensors --against runs/kjv@400 --text Fixtures/data/kjv.txt
            """)

    @Argument(help: "A run's folder, RUN@STEP, or a safetensors file that a run was converted to.")
    var checkpoint: String
    @Option(help: "The text of the run.")
    var text: String
    @Option(help: "Another checkpoint whose model should compute the same.")
    var against: String?
    @Option(help: "How many sequences are looked at; by default as many as are stored.")
    var examples = 8
    @Option(help: "How far a loss may be off, in nats.")
    var tolerance = Fingerprint.tolerance

    func validate() throws {
        guard (1...1 << 20).contains(examples), tolerance >= 0 else {
            throw ValidationError(
                "--examples must be at least 1, and --tolerance a number from 0 on (got \(examples) and \(tolerance))")
        }
    }

    func run() throws {
        let bytes = try readFile(text)
        let reader = try StoredModel.open(checkpoint)
        let expected: Fingerprint
        if let against {
            let other = try StoredModel.trainer(StoredModel.open(against), text: bytes)
            expected = other.fingerprint(exampleCount: examples)
        } else {
            guard let stored = reader.values.first(where: { $0.name == "fingerprint" }) else {
                throw CairnError(
                    .notFound, "the checkpoint has no fingerprint",
                    .init(file: reader.source, advice: "save it by a run with --fingerprint, or say --against what"))
            }
            expected = try Fingerprint(stored.value)
        }
        let found = try StoredModel.trainer(reader, text: bytes).fingerprint(exampleCount: expected.losses.count)
        let difference = found.difference(from: expected)
        let isSame = difference <= tolerance
        say(
            "\(checkpoint) computes \(isSame ? "the same" : "SOMETHING ELSE"): the losses of \(expected.losses.count) "
                + "sequences differ by at most \(scientific(difference))")
        guard isSame else { throw ExitCode(1) }
    }
}
