import Cairn
import CairnCommunication
import CairnLayout
import CairnTrain

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
