import Cairn
import CairnBase
import CairnSnapshot
import CairnTensor
import Synchronization

/// What a snapshot costs training, beside what asynchronous saves of others cost it: `cairn-bench --snapshots`.
///
/// The stall is the time of the call plus all slow-down of the steps that follow until the checkpoint is durable. Two
/// regimes: *after* computing that outlasts the drain comes an update, as in real training; *at once*, updates follow the
/// call without a pause, the worst case.
struct SnapshotBench {
    let folder: String
    let rounds: Int
    let python: String?
    private static let kinds = ["dcp", "dcp-cached", "torchsnapshot", "orbax"]
    private static let script = "Scripts/lib/async_peers.py"
    /// Longer than any drain takes on the machine.
    private static let computeSeconds = 2.5

    func run() throws {
        let table = StallTable()
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try ours(table)
            for kind in Self.kinds { try peer(kind, table) }
        }
        table.print()
    }

    /// Everything of ours in one round. The state is made anew, so that peers have the memory in between.
    private func ours(_ table: StallTable) throws {
        let work = try AdamWork()
        work.reserve()
        work.calibrate(seconds: Self.computeSeconds)
        let hard = [
            ("plain write, two threads, early writeback + fsync", HardPlainFile(folder: folder, manner: .earlyWriteback)),
            ("plain write, two threads, O_DIRECT + fsync", HardPlainFile(folder: folder, manner: .direct)),
        ].filter { $0.1.isPossible }
        for (name, file) in hard { table.note(name, .init(durable: try timed { try file.write(work.state) })) }
        if let (_, direct) = hard.last {
            // What a save that sums nothing and keeps no order would cost the computing beside it.
            let base = try Self.median((0..<3).map { _ in try timed { work.compute() } })
            let writing = OverlappedWork()
            let durable = Mutex(0.0)
            let state = work.state
            var products: [Double] = []
            let slowed = try timed {
                try writing.start {
                    let start = ContinuousClock.now
                    try direct.write(state)
                    durable.withLock { $0 = (ContinuousClock.now - start) / .seconds(1) }
                }
                products = work.compute()
            }
            try writing.wait()
            let seconds = durable.withLock { $0 }
            table.note(
                "the last beside computing",
                .init(
                    stall: slowed - base, durable: seconds, base: base,
                    beside: ComputeSlowdown.seconds(of: products, beside: seconds)))
        }
        for (_, file) in hard { file.remove() }
        table.note("copy of the state into warm memory", .init(durable: try copyTime(work)))
        let store = CheckpointStore(path: folder + "/snapshots")
        var options = SaveOptions()
        options.replacing = true
        table.note("cairn blocking save", .init(durable: try timed { try store.save(work.state, step: 1, options: options) }))
        var pipelineOptions = SnapshotOptions()
        pipelineOptions.byteBudget = work.byteCount
        let pipeline = SnapshotPipeline(store, pool: work.pool, options: pipelineOptions)
        for isAtOnce in [false, true] {
            var products: [Double] = []
            let step: () throws -> Void = {
                if !isAtOnce { products += work.compute() }
                try work.update()
            }
            let base = try Self.median((0..<3).map { _ in try timed(step) })
            // The same again without a snapshot says how much of a stall is noise.
            let silent = try timed(step) - base
            let before = work.pool.copyStatistics
            products = []
            let start = ContinuousClock.now
            let snapshot = pipeline.snapshot(work.state, step: 1, options: options, order: work.order)
            let call = (ContinuousClock.now - start) / .seconds(1)
            var steps: [Double] = []
            repeat { steps.append(try timed(step)) } while snapshot.outcome == nil
            guard let report = snapshot.report, report.outcome.isCommitted else {
                throw CairnError(
                    .incomplete, "the snapshot was not saved", .init(found: "\(String(describing: snapshot.outcome))"))
            }
            let extra = steps.reduce(0) { $0 + $1 - base }
            let copies = work.pool.copyStatistics
            Table.note(
                "  \(report.timeline.copyCount) copies of \(copies.copiedByteCount - before.copiedByteCount) bytes, held at"
                    + " most \(copies.highWaterByteCount)")
            table.note(
                isAtOnce ? "cairn snapshot, at once" : "cairn snapshot, after",
                .init(
                    call: call, stall: call + extra, durable: report.timeline.total, base: base,
                    first: steps.first.map { $0 - base },
                    noise: silent, beside: ComputeSlowdown.seconds(of: products, beside: report.timeline.total)))
        }
        pipeline.drain()
        try store.delete(step: 1)
    }

    private func copyTime(_ work: AdamWork) throws -> Double {
        let state = work.state
        func copy() throws {
            for (_, tensor) in state.tensors { _ = try tensor.copy(of: Region(whole: tensor.shape), pool: work.pool) }
        }
        try copy()
        return try timed(copy)
    }

    private func peer(_ kind: String, _ table: StallTable) throws {
        guard let python else { return }
        for regime in ["after", "at-once"] {
            let answer = try PeerOutput.numbers(of: [
                python, Self.script, kind, regime, folder, "\(Self.computeSeconds)",
            ])
            guard answer.count == 5 else {
                Table.note("  \(kind), \(regime): no answer")
                continue
            }
            table.note(
                "\(kind), \(regime == "after" ? "after" : "at once")",
                .init(call: answer[0], stall: answer[1], durable: answer[2], base: answer[3], first: answer[4]))
        }
    }

    private func timed(_ body: () throws -> Void) throws -> Double {
        let start = ContinuousClock.now
        try body()
        return (ContinuousClock.now - start) / .seconds(1)
    }

    static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
}

/// What was measured of a way to save, in seconds.
struct StallFigures {
    var call: Double?
    var stall: Double?
    var durable: Double?
    /// A step without any save.
    var base: Double?
    /// How much longer the first step after the call took.
    var first: Double?
    /// How much longer a step took although nothing was saved.
    var noise: Double?
    /// What the computing beside the save lost, by comparison within the step.
    var beside: Double?
}

/// Rows of figures, medians over rounds.
final class StallTable {
    private var order: [String] = []
    private var rows: [String: [StallFigures]] = [:]

    func note(_ name: String, _ figures: StallFigures) {
        if rows[name] == nil { order.append(name) }
        rows[name, default: []].append(figures)
        Table.note("  \(name): \(cells(of: [figures]).joined(separator: " "))")
    }

    func print() {
        Swift.print("| what | call ms | stall ms | first step later by ms | durable s | step s | noise ms | within the step ms |")
        Swift.print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for name in order { Swift.print("| \(name) | \(cells(of: rows[name] ?? []).joined(separator: " | ")) |") }
    }

    private func cells(of figures: [StallFigures]) -> [String] {
        func cell(_ path: KeyPath<StallFigures, Double?>, _ scale: Double, _ digits: Int) -> String {
            let values = figures.compactMap { $0[keyPath: path] }
            guard !values.isEmpty else { return "" }
            return Table.fixed(SnapshotBench.median(values) * scale, digits)
        }
        return [
            cell(\.call, 1000, 2), cell(\.stall, 1000, 1), cell(\.first, 1000, 1), cell(\.durable, 1, 3), cell(\.base, 1, 3),
            cell(\.noise, 1000, 1), cell(\.beside, 1000, 1),
        ]
    }
}

/// How much longer computing took because of what ran beside it.
///
/// A step as a whole varies by more than a snapshot costs. So the products of one step are compared with each other: those
/// that began before the work beside them was done with those that came after it, moments later on the same machine.
enum ComputeSlowdown {
    /// - Parameters:
    ///   - products: The seconds of each product, one after the other from the moment when the work began.
    ///   - duration: For how many seconds the work lasted.
    /// - Returns: The seconds that were lost; `nil` if fewer products came after the work than make a sound comparison.
    static func seconds(of products: [Double], beside duration: Double) -> Double? {
        var begin = 0.0
        var besideCount = 0
        while besideCount < products.count, begin < duration {
            begin += products[besideCount]
            besideCount += 1
        }
        let after = products[besideCount...]
        guard after.count >= max(16, besideCount / 4) else { return nil }
        return begin - after.reduce(0, +) / Double(after.count) * Double(besideCount)
    }
}
