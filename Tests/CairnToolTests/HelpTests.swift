import CairnBase
import CairnTesting
import Foundation
import Testing

@Suite struct Help {
    private static let commands = [
        "ls", "lineage", "inspect", "digest", "verify", "diff", "convert", "prune", "protect", "repair", "rules",
        "reshard", "plan", "simulate", "average", "merge", "interpolate", "align", "delta", "apply", "graft", "pack", "keep",
        "formats",
    ]

    @Test func rootHelpNamesEveryCommandAndTheExitCodes() throws {
        let run = try ToolRun("help", in: TemporaryDirectory())
        #expect(run.exitCode == 0)
        for command in Self.commands {
            #expect(run.output.contains("\n  \(command) "), "\(command) is missing")
        }
        #expect(run.output.contains("Exit codes"))
        #expect(run.errors.isEmpty)
    }

    @Test(arguments: Self.commands)
    func everyCommandHasAnExampleAndExplainsItsOptions(command: String) throws {
        let run = try ToolRun("help", command, in: TemporaryDirectory())
        #expect(run.exitCode == 0)
        #expect(run.output.contains("Example"))
        #expect(run.output.contains("  cairn \(command) "))
        #expect(run.output.contains("--json"))
    }

    @Test func formatsAreListedAsThePageHasThem() throws {
        let run = try ToolRun("formats", in: TemporaryDirectory())
        #expect(run.exitCode == 0)
        let page = try String(contentsOfFile: Repository.root + "/Docs/CLI.md", encoding: .utf8)
        #expect(page.contains("```\n\(run.output)```"))
        let document = try ToolRun("formats", "--json", in: TemporaryDirectory()).document()
        let help = try ToolRun("help", "convert", in: TemporaryDirectory()).output
        for format in try document.array("formats") {
            for target in try format.asObject().array("targets") {
                let name = try target.asObject().string("name")
                #expect(help.contains("\n  \(name) "), "\(name)")
            }
        }
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func completionScriptsAreThereForEveryShell(shell: String) throws {
        let run = try ToolRun("--generate-completion-script", shell, in: TemporaryDirectory())
        #expect(run.exitCode == 0)
        #expect(run.output.contains("convert"))
    }

    @Test(arguments: [["frobnicate"], ["convert", "a", "b"], ["prune", "run"], ["diff", "a"], ["inspect", "a", "--no"]])
    func wrongUsageExitsWith64AndSaysHow(arguments: [String]) throws {
        let run = try ToolRun(arguments, in: TemporaryDirectory())
        #expect(run.exitCode == 64)
        #expect(run.output.isEmpty)
        #expect(run.errors.contains("Usage:"))
    }

    @Test(arguments: [
        (["inspct", "a"], "inspect"), (["vrefy", "a"], "verify"), (["rules", "chek"], "check"),
        (["inspect", "a", "--fromat", "x"], "--format"),
    ])
    func whatIsMisspeltIsToldTheNearest(arguments: [String], nearest: String) throws {
        let run = try ToolRun(arguments, in: TemporaryDirectory())
        #expect(run.exitCode == 64)
        #expect(run.errors.contains("Did you mean '\(nearest)'?"), "\(run.errors)")
    }
}
