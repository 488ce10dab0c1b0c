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
            AlignCommand.self, DeltaCommand.self, ApplyCommand.self, GraftCommand.self, ReshardCommand.self, PlanCommand.self,
            SimulateCommand.self, PruneCommand.self, PackCommand.self, ProtectCommand.self, RepairCommand.self, KeepCommand.self,
            RulesCommand.self, FormatsCommand.self,
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

/// What a command that does not exist may have been meant to be. (Of options the argument parser says it itself.)
enum NearestCommand {
    /// How different a name may be.
    private static let greatestDistance = 2

    /// - Returns: `nil` where the commands exist, or nothing is near.
    static func advice(for arguments: [String], of root: any ParsableCommand.Type) -> String? {
        var command = root
        for argument in arguments {
            let children = command.configuration.subcommands
            guard !children.isEmpty, !argument.hasPrefix("-"), argument != "help" else { return nil }
            if let child = children.first(where: { $0._commandName == argument }) {
                command = child
                continue
            }
            let near = children.map { (name: $0._commandName, distance: distance(argument, $0._commandName)) }
                .filter { $0.distance <= greatestDistance || $0.name.hasPrefix(argument) }
                .min { $0.distance < $1.distance }
            return near.map { "cairn: there is no command '\(argument)'. Did you mean '\($0.name)'?" }
        }
        return nil
    }

    /// How many letters must be put in, left out, changed or exchanged with their neighbours to make one of the other.
    static func distance(_ first: String, _ second: String) -> Int {
        let (one, other) = (Array(first), Array(second))
        var rows = [Array(0...other.count)]
        for (row, letter) in one.enumerated() {
            var next = [row + 1]
            for (column, otherLetter) in other.enumerated() {
                var least = min(rows[row][column + 1] + 1, next[column] + 1, rows[row][column] + (letter == otherLetter ? 0 : 1))
                if row > 0, column > 0, letter == other[column - 1], one[row - 1] == otherLetter {
                    least = min(least, rows[row - 1][column - 1] + 1)
                }
                next.append(least)
            }
            rows.append(next)
        }
        return rows[one.count][other.count]
    }
}
