import ArgumentParser
import Cairn
import CairnProcesses
import CairnTrain

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Trains on many ranks, is killed in the middle of a save, resumes under the same layout and under another, and
/// compares with a run that was left alone.
struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Shows that a run on four ranks, killed with SIGKILL inside a save, ends as if nothing had happened.",
        discussion: """
            Exits with 1 when the run resumed under the same layout differs in a single bit from the uninterrupted \
            one, or the one resumed under another layout by more than rounding.
            """)

    @OptionGroup var options: RunOptions
    @Option(help: "A folder for the runs and the picture; what the demo left there before is replaced.")
    var out: String
    @Option(help: "Steps between two checkpoints.")
    var saveEvery = 50
    @Option(help: "The layout of the run.")
    var mesh = "tp=2,dp=2"
    @Option(help: "The layout that it is resumed under.")
    var otherMesh = "pp=2,dp=2"

    func validate() throws {
        guard options.model == .transformer else { throw ValidationError("only a transformer trains on many ranks") }
        guard saveEvery > 0 else { throw ValidationError("--save-every must be at least 1 (got \(saveEvery))") }
    }

    func run() throws {
        let killStep = max(2, options.steps * 2 / 3 / saveEvery) * saveEvery
        guard killStep < options.steps else {
            throw ValidationError("--steps must leave room for two saves, a killed one and more training")
        }
        try removeOldRuns()
        let layout = ["--mesh", mesh, "--zero"]
        say("1. A run of \(options.steps) steps on the ranks of \(mesh), with ZeRO, without interruption.")
        try expectSuccess(child("uninterrupted", layout))

        say("\n2. The same run, killed with SIGKILL inside the save of step \(killStep).")
        let hold = ["--hold-save-of-step", "\(killStep)", "--hold-rank", "1"]
        let end = try child("killed", layout + hold) { $0.hasPrefix("holding the save") }
        guard end == .killed(9) else { throw CairnError(.mismatch, "the child was not killed", .init(found: "\(end)")) }
        let killed = CheckpointStore(path: out + "/killed")
        for row in try killed.list() {
            say("   step \(row.step): \(row.manifest == nil ? "no manifest, debris" : "committed")")
        }

        say("\n3. What happens when the optimizer's state is left out of the resume.")
        try expectSuccess(child("without-optimizer", layout + ["--resume-from", killed.name, "--without-optimizer"]))

        say("\n4. The killed run continues under another layout, \(otherMesh).")
        try expectSuccess(child("other-layout", ["--mesh", otherMesh, "--resume-from", killed.name]))

        say("\n5. The killed run continues under its own layout.")
        try expectSuccess(child("killed", layout + ["--resume"]))

        try compare()
    }

    private func compare() throws {
        let whole = try losses("uninterrupted")
        let resumed = try losses("killed")
        let other = try losses("other-layout")
        let bare = try losses("without-optimizer")
        let step = options.steps
        let first = try CheckpointStore(path: out + "/uninterrupted").load(step: step)
        let second = try CheckpointStore(path: out + "/killed").load(step: step)
        let third = try CheckpointStore(path: out + "/other-layout").load(step: step)
        let sameState = first == second
        let sameLosses =
            whole.count == step && whole.map(\.step) == resumed.map(\.step)
            && whole.map(\.loss.bitPattern) == resumed.map(\.loss.bitPattern)
        let deviation = LossDeviation(of: other, from: whole)
        let isWithin =
            deviation.isWithin(LossDeviation.tolerance) && other.last?.step == step
            && third.names == first.names

        say("\n6. Compared after step \(step):")
        let names = first.names.count
        say("   resumed under \(mesh)")
        let state = sameState ? "identical" : "DIFFERENT"
        say("      state   \(state): \(names) entries, \(first.byteCount) bytes of tensors")
        say("      losses  \(sameLosses ? "identical" : "DIFFERENT"): \(resumed.count) steps, bit for bit")
        say("   resumed under \(otherMesh)")
        let outcome = isWithin ? "equal but for rounding" : "DIFFERENT"
        let largest = scientific(deviation.largest?.loss ?? .nan)
        say("      losses  \(outcome): \(other.count) steps, off by at most \(largest)")
        let excess = LossDeviation(of: bare, from: whole)
        if let worst = excess.largest, let from = bare.first?.step {
            say("   resumed without the optimizer's state")
            say("      losses  off by up to \(decimal(worst.loss)) from step \(from) on")
        }
        let curves = [
            LossCurve(name: "uninterrupted, \(mesh)", points: whole, colour: "#9ecae1", mark: "·", width: 7),
            LossCurve(name: "resumed without optimizer state", points: bare, colour: "#d62728", mark: "x"),
            LossCurve(name: "resumed under \(otherMesh)", points: other, colour: "#2ca02c", mark: "+"),
            LossCurve(
                name: "killed in a save and resumed", points: resumed, colour: "#08306b", mark: "o", width: 1.5,
                isDashed: true),
        ]
        say("\n" + TerminalChart().draw(curves))
        let picture = VectorChart(title: "A run on the ranks of \(mesh) killed inside a save, resumed").draw(curves)
        try LocalStorage(root: out).publish(Array(picture.utf8), as: "loss.svg")
        say("\nThe picture is in \(out)/loss.svg; look into the run with: cairn ls \(out)/killed")
        guard sameState, sameLosses, isWithin else { throw ExitCode(1) }
    }

    private func losses(_ name: String) throws -> [(step: Int, loss: Double)] {
        var log = LossLog(folder: out + "/" + name)
        try log.load(upTo: .max)
        return log.losses
    }

    /// Runs this program, and kills it with SIGKILL as soon as `isLast` says so of a line.
    private func child(
        _ name: String, _ more: [String], isLast: (String) -> Bool = { _ in false }
    ) throws -> ChildProcess.End {
        let arguments = ["run", "--out", out + "/" + name, "--save-every", "\(saveEvery)"] + options.arguments + more
        let child = try ChildProcess(CommandLine.arguments.first ?? "cairn-train", arguments, output: .pipe)
        while let line = child.readLine() {
            let words = line.split(separator: " ")
            // One line in five says enough of the progress.
            let step = words.first == "step" && words.count > 1 ? Int(words[1]) : nil
            if (step ?? 0) % 50 == 0 { say("   " + line) }
            if isLast(line) { child.send(SIGKILL) }
        }
        return child.wait()
    }

    private func expectSuccess(_ end: ChildProcess.End) throws {
        guard end == .exited(0) else {
            throw CairnError(.mismatch, "a training process failed", .init(found: "\(end)"))
        }
    }

    private func removeOldRuns() throws {
        let storage = LocalStorage(root: out)
        for name in ["uninterrupted", "killed", "without-optimizer", "other-layout"] {
            let old = try storage.list(name + "/").map(\.key)
            if !old.isEmpty { try storage.delete(old) }
        }
    }
}
