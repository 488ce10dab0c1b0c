import ArgumentParser
package import CairnCommunication

/// The example trainer, over any kind of ranks.
package enum TrainProgram {
    /// Does what the command line says.
    package static func main(_ launcher: RankLauncher) {
        if launcher.ranksAreProcesses {
            run(ProcessesCommand.self, launcher)
        } else {
            run(TrainCommand.self, launcher)
        }
    }

    private static func run(_ root: any ParsableCommand.Type, _ launcher: RankLauncher) {
        do {
            var command = try root.parseAsRoot()
            if let command = command as? any LaunchedCommand {
                try command.run(on: launcher)
            } else {
                try command.run()
            }
        } catch {
            root.exit(withError: error)
        }
    }
}

/// A command that runs on ranks.
protocol LaunchedCommand: ParsableCommand {
    func run(on launcher: RankLauncher) throws
}

/// `cairn-train`
struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cairn-train",
        abstract: "Trains small models on real data and keeps every state that matters in a Cairn store.",
        discussion: """
            A run that is killed at any moment continues with --resume from its last valid checkpoint, and ends with the
            very bytes of a run that was never interrupted.

            EXAMPLES
              cairn-train run --text Fixtures/data/kjv.txt --out runs/kjv --steps 400
              cairn-train run --text Fixtures/data/kjv.txt --out runs/kjv --steps 400 --resume
              cairn-train run --text Fixtures/data/kjv.txt --out runs/four --ranks 4 --mesh tp=2,dp=2 --zero
              cairn-train branch runs/kjv@400 runs/decayed --decay-steps 40
              cairn-train upcycle runs/kjv@400 runs/moe --experts 4
              cairn-train run --model mlp --digits Fixtures/data/digits.csv --out runs/digits
              cairn-train experiment lawa --text Fixtures/data/kjv.txt --out runs/lawa
              cairn-train layouts --text Fixtures/data/kjv.txt --out runs/layouts
              cairn-train demo --text Fixtures/data/kjv.txt --out runs/demo
            """,
        version: "0.1.0",
        subcommands: [
            RunCommand.self, BranchCommand.self, UpcycleCommand.self, EvaluateCommand.self, CheckCommand.self,
            ExperimentCommand.self, LayoutsCommand.self,
            DemoCommand.self,
        ])
}

/// `cairn-train-mpi`
struct ProcessesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cairn-train-mpi",
        abstract: "What cairn-train does on many ranks, each a process of an MPI job.",
        discussion: """
            Its checkpoints are those of cairn-train: either continues from the other's.

            EXAMPLE
              mpirun -n 4 cairn-train-mpi run --text Fixtures/data/kjv.txt --out runs/four --mesh tp=2,dp=2 --zero
            """,
        version: "0.1.0", subcommands: [RunCommand.self])
}

/// How the ranks of a run are started: what the executables differ in.
package struct RankLauncher {
    /// Whether each rank is a process of a job that has been started already, so that the job says how many there are.
    package let ranksAreProcesses: Bool
    /// Calls the body on so many ranks; `nil` is as many as the job has.
    package let launch: (Int?, @escaping @Sendable (any Communicator) throws -> Void) throws -> Void

    package init(
        ranksAreProcesses: Bool,
        launch: @escaping (Int?, @escaping @Sendable (any Communicator) throws -> Void) throws -> Void
    ) {
        self.ranksAreProcesses = ranksAreProcesses
        self.launch = launch
    }

    /// Each rank a thread of this process.
    package static var threads: RankLauncher {
        RankLauncher(ranksAreProcesses: false) { ranks, body in
            _ = try ThreadCommunicator.run(ranks: ranks ?? 1, body: body)
        }
    }
}
