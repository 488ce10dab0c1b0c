import ArgumentParser
import Cairn
import CairnTrain

/// One run resumed under many layouts: the experiment of Lian et al. 2024 (Universal Checkpointing).
struct LayoutsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "layouts",
        abstract: "Shows that a run resumed under any layout continues as if it had never been interrupted.",
        discussion: """
            Trains under tp=2,dp=2 with ZeRO, once without interruption and once to the middle, and resumes from there \
            under other layouts. Every curve must lie on the uninterrupted one.

            Exits with 1 when a loss differs by more than the tolerance, or, under the same layout, in a single bit.
            """)

    @OptionGroup var options: RunOptions
    @Option(help: "A folder for the runs, layouts.csv and layouts.svg; what was left there before is replaced.")
    var out: String
    @Option(help: "How far a loss may be off, in nats.")
    var tolerance = LossDeviation.tolerance

    func validate() throws {
        guard options.steps >= 2 else { throw ValidationError("--steps must leave room for an interruption") }
        guard options.model == .transformer else { throw ValidationError("only a transformer trains on many ranks") }
    }

    func run() throws {
        let middle = options.steps / 2
        let experiment = LayoutExperiment(options: options, folder: out, middle: middle, text: try options.makeText())
        try experiment.removeOldRuns()
        let source = LayoutExperiment.source
        say("\(source.name), \(options.steps) steps without interruption")
        let reference = try experiment.train(source, as: "reference")
        say("\(source.name), interrupted after step \(middle)")
        let stopped = try experiment.train(source, as: "interrupted", stopAfter: middle)
        var isGood = Self.bits(stopped) == Self.bits(Array(reference.prefix(middle)))
        if !isGood { say("   the interrupted run differs from the reference before the interruption") }

        var results: [LayoutResult] = []
        for layout in LayoutExperiment.resumed {
            say("resumed under \(layout.name)")
            results.append(try experiment.resume(layout, reference: reference))
        }
        say("\n" + LayoutReport.table(results))
        for result in results {
            let layout = result.layout
            if layout.loss == .sameBits, Self.bits(result.losses) != Self.bits(Array(reference.dropFirst(middle))) {
                say("\(layout.name): differs from the uninterrupted run, though the layout is the same")
                isGood = false
            }
            let isWithin = result.deviation.isWithin(tolerance) && result.losses.count == options.steps - middle
            if layout.loss != .off, !isWithin {
                say("\(layout.name): off by more than \(scientific(tolerance))")
                isGood = false
            }
            if layout.loss == .off, result.deviation.isWithin(tolerance) {
                say("\(layout.name): cannot be told from a whole resume, so the comparison proves nothing")
                isGood = false
            }
        }
        let report = LayoutReport(source: source.name, middle: middle, reference: reference, results: results)
        let storage = LocalStorage(root: out)
        try storage.publish(Array(report.csv.utf8), as: "layouts.csv")
        try storage.publish(Array(report.picture(tolerance: tolerance).utf8), as: "layouts.svg")
        say("\nThe numbers are in \(out)/layouts.csv, the picture is \(out)/layouts.svg")
        guard isGood else { throw ExitCode(1) }
        say("OK: every resumed curve lies on the uninterrupted one, within \(scientific(tolerance)) nats")
    }

    private static func bits(_ losses: [(step: Int, loss: Double)]) -> [UInt64] { losses.map(\.loss.bitPattern) }
}
