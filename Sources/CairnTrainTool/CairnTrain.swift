import ArgumentParser

/// The example trainer.
@main
struct CairnTrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cairn-train",
        abstract: "Trains small models on real data and keeps every state that matters in a Cairn store.",
        discussion: """
            A run that is killed at any moment goes on with --resume from its last valid checkpoint, and ends with the
            very bytes of a run that was never interrupted.

            EXAMPLES
              cairn-train run --text Fixtures/data/kjv.txt --out runs/kjv --steps 400
              cairn-train run --text Fixtures/data/kjv.txt --out runs/kjv --steps 400 --resume
              cairn-train run --text Fixtures/data/kjv.txt --out runs/four --ranks 4 --mesh tp=2,dp=2 --zero
              cairn-train run --model mlp --digits Fixtures/data/digits.csv --out runs/digits
              cairn-train demo --text Fixtures/data/kjv.txt --out runs/demo
            """,
        version: "0.1.0", subcommands: [RunCommand.self, DemoCommand.self])
}
