import ArgumentParser
import Cairn
import CairnTrain

/// Trains, is killed in the middle of a save, resumes, and compares with a run that was left alone.
struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Shows that a run killed with SIGKILL inside a save ends as if nothing had happened.",
        discussion: "Exits with 1 when the resumed run differs in a single bit from the uninterrupted one.")

    @OptionGroup var options: RunOptions
    @Option(help: "A folder for the runs and the picture; what the demo left there before is replaced.")
    var out: String
    @Option(help: "Steps between two checkpoints.")
    var saveEvery = 50

    func run() throws {
        let killStep = max(2, options.steps * 2 / 3 / saveEvery) * saveEvery
        guard killStep < options.steps else {
            throw ValidationError("--steps must leave room for two saves, a killed one and more training")
        }
        try removeOldRuns()
        say("1. A run of \(options.steps) steps that nobody disturbs.")
        try expectSuccess(child("uninterrupted", []))

        say("\n2. The same run, killed with SIGKILL inside the save of step \(killStep).")
        let end = try child("killed", ["--hold-save-of-step", "\(killStep)"]) { $0.hasPrefix("holding the save") }
        guard end == .killed(9) else { throw CairnError(.mismatch, "the child was not killed", .init(found: "\(end)")) }
        let killed = CheckpointStore(path: out + "/killed")
        for row in try killed.list() { say("   step \(row.step): \(row.manifest == nil ? "no manifest, debris" : "committed")") }

        say("\n3. What happens when the optimizer's state is left out of the resume.")
        try expectSuccess(child("without-optimizer", ["--resume-from", killed.name, "--without-optimizer"]))

        say("\n4. The killed run goes on.")
        try expectSuccess(child("killed", ["--resume"]))

        try compare()
    }

    private func compare() throws {
        let whole = try losses("uninterrupted")
        let resumed = try losses("killed")
        let bare = try losses("without-optimizer")
        let step = options.steps
        let first = try CheckpointStore(path: out + "/uninterrupted").load(step: step)
        let second = try CheckpointStore(path: out + "/killed").load(step: step)
        let sameState = first == second
        let sameLosses = whole.count == step && whole.map(\.step) == resumed.map(\.step)
            && whole.map(\.loss.bitPattern) == resumed.map(\.loss.bitPattern)

        say("\n5. Compared after step \(step):")
        let names = first.names.count
        say("   state   \(sameState ? "identical" : "DIFFERENT"): \(names) entries, \(first.byteCount) bytes of tensors")
        say("   losses  \(sameLosses ? "identical" : "DIFFERENT"): \(resumed.count) steps, bit for bit")
        let reference = Dictionary(whole.map { ($0.step, $0.loss) }, uniquingKeysWith: { $1 })
        let excess = bare.compactMap { point in reference[point.step].map { point.loss - $0 } }
        if let worst = excess.max(), let from = bare.first?.step {
            say("   without the optimizer's state: the loss is up to \(decimal(worst)) higher after step \(from - 1)")
        }
        let curves = [
            LossCurve(name: "uninterrupted", points: whole, colour: "#9ecae1", mark: "·"),
            LossCurve(name: "resumed without optimizer state", points: bare, colour: "#d62728", mark: "x"),
            LossCurve(name: "killed in a save and resumed", points: resumed, colour: "#08519c", mark: "o", isDashed: true),
        ]
        say("\n" + TerminalChart().draw(curves))
        let picture = VectorChart(title: "A run killed inside a save, resumed").draw(curves)
        try LocalStorage(root: out).publish(Array(picture.utf8), as: "loss.svg")
        say("\nThe picture is in \(out)/loss.svg; look into the run with: cairn ls \(out)/killed")
        guard sameState, sameLosses else { throw ExitCode(1) }
    }

    private func losses(_ name: String) throws -> [(step: Int, loss: Double)] {
        var log = LossLog(folder: out + "/" + name)
        try log.load(upTo: .max)
        return log.losses
    }

    private func child(
        _ name: String, _ more: [String], killWhen: (String) -> Bool = { _ in false }
    ) throws -> ChildProcess.End {
        let arguments = ["run", "--out", out + "/" + name, "--save-every", "\(saveEvery)"] + options.arguments + more
        return try ChildProcess.run(arguments, { line in
            // One line in five says enough of the progress.
            let words = line.split(separator: " ")
            if words.first == "step", words.count > 1, let step = Int(words[1]), step % 50 != 0 { return }
            say("   " + line)
        }, killWhen: killWhen)
    }

    private func expectSuccess(_ end: ChildProcess.End) throws {
        guard end == .exited(0) else {
            throw CairnError(.mismatch, "a training process failed", .init(found: "\(end)"))
        }
    }

    private func removeOldRuns() throws {
        let storage = LocalStorage(root: out)
        for name in ["uninterrupted", "killed", "without-optimizer"] {
            let old = try storage.list(name + "/").map(\.key)
            if !old.isEmpty { try storage.delete(old) }
        }
    }
}

extension RunOptions {
    /// The options as they would be typed.
    var arguments: [String] {
        var words = ["--model", model.rawValue, "--steps", "\(steps)", "--layers", "\(layers)", "--heads", "\(heads)"]
        words += ["--width", "\(width)", "--context", "\(context)", "--batch", "\(batch)"]
        words += ["--vocabulary", "\(vocabulary)", "--optimizer", optimizer.rawValue]
        words += ["--schedule", schedule.rawValue, "--rate", "\(rate)", "--seed", "\(seed)"]
        if let text { words += ["--text", text] }
        if let digits { words += ["--digits", digits] }
        if bf16 { words.append("--bf16") }
        return words
    }
}
