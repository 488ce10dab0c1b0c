import ArgumentParser
import CairnBase
import CairnCheckpoint

@main
struct CairnCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cairn",
        abstract: "Look into, check, compare and convert the checkpoints of training runs.",
        discussion: """
            PATH is anything Cairn reads: the directory of a run (the latest checkpoint is taken), RUN@400 or \
            RUN@latest \
            for one of its checkpoints, a checkpoint's own directory, a .safetensors file, a file of torch.save, or a \
            directory with an index of either (model.safetensors.index.json, pytorch_model.bin.index.json). The format is found out by looking at what is there, never by guessing; \
            --format forces one.

            A first look:
              cairn ls runs/kjv
              cairn inspect runs/kjv@latest
              cairn verify runs/kjv --deep
              cairn convert runs/kjv@400 model.safetensors --to safetensors

            Exit codes: 0 done; 1 done, and the answer is no (damage or a difference was found); 2 could not be done; \
            64 wrong usage; 130 interrupted. Results go to standard output, everything else to standard error.
            """,
        version: "cairn " + Producer.version,
        subcommands: [
            ListCommand.self, LineageCommand.self, InspectCommand.self, DigestCommand.self, VerifyCommand.self,
            DiffCommand.self, ConvertCommand.self, AverageCommand.self, MergeCommand.self, InterpolateCommand.self,
            AlignCommand.self, ReshardCommand.self, PlanCommand.self, SimulateCommand.self, PruneCommand.self,
            RepairCommand.self, RulesCommand.self, FormatsCommand.self,
        ])

    /// Parses, runs, and turns whatever happens into the promised exit codes.
    static func main() {
        let command: any ParsableCommand
        do {
            command = try parseAsRoot()
        } catch {
            if let advice = NearestCommand.advice(for: Array(CommandLine.arguments.dropFirst()), of: Self.self) {
                StandardError.line(advice)
            }
            exit(withError: error)
        }
        do {
            var running = command
            try running.run()
        } catch let error as CairnError {
            Exit.fail(error)
        } catch let error as ExitCode {
            Exit.now(error.rawValue)
        } catch {
            // What the argument parser raises itself: help, validation, version.
            exit(withError: error)
        }
        Exit.now(0)
    }
}
