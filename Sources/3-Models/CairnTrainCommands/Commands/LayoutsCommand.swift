import ArgumentParser
import Cairn
import CairnCommunication
import CairnLayout
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

/// A layout that a run is resumed under.
struct TriedLayout: Sendable {
    /// How the losses must lie to those of the uninterrupted run.
    enum Loss { case sameBits, withinTolerance, off }

    var name: String
    /// `nil` for the trainer on one rank.
    var mesh: String?
    var zero = false
    var withoutOptimizer = false
    var loss = Loss.withinTolerance
    /// A colour of SVG.
    var colour: String
}

/// What came of it.
struct LayoutResult {
    var layout: TriedLayout
    var rankCount: Int
    var losses: [(step: Int, loss: Double)]
    var deviation: LossDeviation
    /// Of the checkpoint that the run saved at its end.
    var fileCount: Int
    var byteCount: Int
}

/// Runs of the same training under different layouts.
struct LayoutExperiment {
    var options: RunOptions
    var folder: String
    var middle: Int
    var text: TextDataset

    static let source = TriedLayout(
        name: "tp=2,dp=2 ZeRO", mesh: "tp=2,dp=2", zero: true, loss: .sameBits, colour: "#333333")

    /// Four ranks divided in every way, fewer, numbers that divide nothing, and a resume that loses state.
    static let resumed = [
        source,
        TriedLayout(name: "dp=4 ZeRO", mesh: "dp=4", zero: true, colour: "#1f77b4"),
        TriedLayout(name: "tp=4", mesh: "tp=4", colour: "#ff7f0e"),
        TriedLayout(name: "pp=2,dp=2", mesh: "pp=2,dp=2", colour: "#2ca02c"),
        TriedLayout(name: "pp=4", mesh: "pp=4", colour: "#9467bd"),
        TriedLayout(name: "tp=2,pp=2", mesh: "tp=2,pp=2", colour: "#8c564b"),
        TriedLayout(name: "one rank", mesh: nil, colour: "#e377c2"),
        TriedLayout(name: "tp=3, heads 2+1+1", mesh: "tp=3", colour: "#bcbd22"),
        TriedLayout(name: "dp=3 ZeRO, uneven batch", mesh: "dp=3", zero: true, colour: "#17becf"),
        TriedLayout(
            name: "dp=4, optimizer state lost", mesh: "dp=4", withoutOptimizer: true, loss: .off, colour: "#d62728"),
    ]

    func removeOldRuns() throws {
        let storage = LocalStorage(root: folder)
        for name in ["reference", "interrupted"] + Self.resumed.indices.map({ "resumed-\($0)" }) {
            let old = try storage.list(name + "/").map(\.key)
            if !old.isEmpty { try storage.delete(old) }
        }
    }

    /// Runs from the first step.
    func train(
        _ layout: TriedLayout, as name: String, stopAfter: Int? = nil
    ) throws -> [(step: Int, loss: Double)] {
        var plan = plan(name)
        plan.stopAfter = stopAfter
        return try run(plan, layout)
    }

    /// Runs from the interruption to the end.
    func resume(_ layout: TriedLayout, reference: [(step: Int, loss: Double)]) throws -> LayoutResult {
        let index = Self.resumed.firstIndex { $0.name == layout.name } ?? 0
        var plan = plan("resumed-\(index)")
        plan.start = .newestOf(folder + "/interrupted")
        plan.withoutOptimizer = layout.withoutOptimizer
        let losses = try run(plan, layout)
        let manifest = try plan.store.open(step: options.steps).manifest
        return LayoutResult(
            layout: layout, rankCount: try rankCount(layout), losses: losses,
            deviation: LossDeviation(of: losses, from: reference), fileCount: manifest.files.count,
            byteCount: manifest.files.reduce(0) { $0 + $1.byteCount })
    }

    private func plan(_ name: String) -> RunPlan {
        var plan = RunPlan(options: options, folder: folder + "/" + name)
        plan.saveEvery = .steps(options.steps)
        plan.note = { line in if line.hasPrefix("skipped") { say("   " + line) } }
        return plan
    }

    private func rankCount(_ layout: TriedLayout) throws -> Int {
        try layout.mesh.map { mesh throws(CairnError) in try DeviceMesh(parsing: mesh).rankCount } ?? 1
    }

    private func run(_ plan: RunPlan, _ layout: TriedLayout) throws -> [(step: Int, loss: Double)] {
        if let mesh = layout.mesh {
            let parallel = ParallelConfiguration(mesh: try DeviceMesh(parsing: mesh), zero: layout.zero)
            let run = ParallelRun(plan: plan, parallel: parallel, text: text)
            _ = try ThreadCommunicator.run(ranks: parallel.mesh.rankCount) { communicator in try run.run(communicator) }
        } else {
            try SingleRun(plan: plan).run()
        }
        var log = LossLog(folder: plan.folder)
        try log.load(upTo: .max)
        return log.losses
    }
}

/// What the experiment found, for people and for programs.
struct LayoutReport {
    var source: String
    var middle: Int
    var reference: [(step: Int, loss: Double)]
    var results: [LayoutResult]

    /// A line for each layout.
    static func table(_ results: [LayoutResult]) -> String {
        var lines = [
            padded("layout", 28) + padded("ranks", 6, right: true) + padded("files", 7, right: true)
                + padded("bytes", 12, right: true) + padded("largest deviation", 20, right: true)
                + padded("at step", 9, right: true)
        ]
        for result in results {
            let largest = result.deviation.largest
            lines.append(
                padded(result.layout.name, 28) + padded("\(result.rankCount)", 6, right: true)
                    + padded("\(result.fileCount)", 7, right: true) + padded("\(result.byteCount)", 12, right: true)
                    + padded(largest.map { scientific($0.loss) } ?? "none", 20, right: true)
                    + padded(largest.map { $0.loss > 0 ? "\($0.step)" : "" } ?? "", 9, right: true))
        }
        return lines.joined(separator: "\n")
    }

    /// A column for each run, a row for each step.
    var csv: String {
        let columns = results.map { result in
            Dictionary(result.losses.map { ($0.step, $0.loss) }, uniquingKeysWith: { $1 })
        }
        let names = results.map { "\"resumed \($0.layout.name)\"" }
        var text = "step,\"uninterrupted \(source)\"," + names.joined(separator: ",") + "\n"
        for point in reference {
            text += "\(point.step),\(point.loss)"
            for column in columns { text += "," + (column[point.step].map { "\($0)" } ?? "") }
            text += "\n"
        }
        return text
    }

    /// All curves on one another, and below them what is between them.
    func picture(tolerance: Double) -> String {
        let whole = LossCurve(
            name: "uninterrupted, \(source)", points: reference, colour: "#c8c8c8", mark: "·", width: 6)
        let resumed = results.map { result in
            LossCurve(
                name: result.layout.name, points: result.losses, colour: result.layout.colour, mark: "o", width: 1.5)
        }
        let differences = results.map { result in
            LossCurve(
                name: result.layout.name, points: result.deviation.differences, colour: result.layout.colour, mark: "o",
                width: 1.5)
        }
        return VectorChart(title: "Interrupted after step \(middle), resumed under other layouts").draw([
            ChartPanel(label: "training loss (nats)", curves: [whole] + resumed, hasLegend: true),
            ChartPanel(
                label: "difference from uninterrupted", scale: .logarithmic(smallest: 1e-11), curves: differences,
                limit: (tolerance, "tolerance")),
        ])
    }
}
